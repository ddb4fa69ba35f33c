#include "cli/model_options.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <future>
#include <memory>

#include "cli/command_line.h"
#include "cli/progress.h"
#include "cli/standard_streams.h"
#include "cli/start_line.h"
#include "formats/atomic_file.h"
#include "formats/git_lfs.h"
#include "generate/inference_plan.h"
#include "tensor/communicator.h"
#include "tensor/stream.h"
#include "tensor/threads.h"

namespace lathe {

void ModelOptions::declare(const Command& command) {
  command.option("--model", model, "folder, file, or name of a model").required();
  command.option("--adapter", adapter, "folder of an adapter in PEFT's form, which changes the model");
  command.option("--dtype", dtype, "auto, float32, bfloat16 or float16; int8 or int16 for quantised weights")
      .shows_default();
  command.option("--quantize", quantize,
                 "quantise on load: q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, iq4_nl or iq4_xs");
  command.option("--kv-cache-dtype", kv_cache_dtype,
                 "float32, float16, bfloat16 or q8_0; default: as --dtype suggests");
  command.option("--kv-memory", kv_memory, "memory for the key-value cache, such as 512MiB");
  declare_device(command, device);
  command.option("--threads", threads, "default: the physical cores that the process may use").between(1, 1024);
  command.option("--context", context, "longest sequence; default: the model's limit")
      .between(int64_t{1}, int64_t{1} << 31);
  command.optional_output("--profile", "[F.json]",
                          "time, bytes and share of the ceiling by operation; a file: a trace of every call, for the "
                          "browser's viewer",
                          [this](const std::string& file) {
                            profile = true;
                            profile_trace = file;
                          });
  command.flag("--deterministic", deterministic, "the same bits whatever else is in the batch: always so");
  command.flag("--verbose", verbose, "say more on standard error");
}

namespace {

// Reads the weights on a thread of their own. This one shows how far they are where that takes more than a second, and
// after Ctrl-C ends the load at the next weight.
LoadedModel load_in_background(LoadedModel opened, const LoadOptions& options) {
  using namespace std::chrono_literals;
  LoadProgress load;
  Progress progress;
  const std::string path = opened.checkpoint.path;
  auto loading = std::async(std::launch::async, [&] { return load_weights(std::move(opened), options, &load); });
  for (int tenths = 0; loading.wait_for(100ms) != std::future_status::ready; ++tenths) {
    load.interrupted = Progress::interrupted();
    if (tenths >= 10)
      progress.show(fmt::format("loading {}: {:.2f} of {:.2f} GB", path, static_cast<double>(load.bytes_read) / 1e9,
                                static_cast<double>(load.bytes_total) / 1e9));
  }
  LoadedModel loaded = loading.get();
  check(!Progress::interrupted(), "load", "{}: interrupted", path);
  return loaded;
}

}  // namespace

void declare_device(const Command& command, std::string& device) {
  command.option("--device", device, "cpu, cuda or cuda:N; default: cuda where the build and the machine have it");
}

Device chosen_device(const std::string& text) {
  const int devices = Stream::devices();
  if (text.empty() && devices == 0) return {};
  const bool any = text.empty() || text == "cuda";
  Device device = parse_device(any ? "cuda" : text);
  if (any && devices > 0) device.index = world().rank() % devices;  // processes that share a model out: one each
  if (device.kind == Device::Kind::cuda && device.index >= devices)
    throw Error(fmt::format("--device {}: {}", text, Stream::why_not(device)), "use --device cpu");
  return device;
}

LoadOptions ModelOptions::load_options() const {
  LoadOptions options;
  options.dtype = parse_compute_dtype(dtype);
  options.quantize = parse_quantize(quantize);
  options.adapter = adapter;
  options.request_adapters = request_adapters;
  options.device = chosen_device(device);
  return options;
}

void ModelOptions::apply_machine_options() const {
  chosen_device(device);
  if (threads > 0) set_threads(threads);
}

LoadedModel ModelOptions::load(bool trainable) const {
  apply_machine_options();
  LoadOptions options = load_options();
  options.trainable = trainable;
  options.ranks = ranks ? ranks : &world();
  if (!options.ranks->is_first()) drop_all_but_errors();
  if (!options.ranks->alone() && threads == 0) set_threads(default_threads(*options.ranks));
  const auto start = std::chrono::steady_clock::now();
  LoadedModel opened = open_model(model, options);
  for (const std::string& written : {output, profile_trace}) check_not_input(written, opened.checkpoint.files);
  check_memory(opened, cache_dtype(opened), options);
  LoadedModel loaded = load_in_background(std::move(opened), options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  for (const std::string& warning : loaded.warnings) fmt::print(stderr, "lathe: warning: {}\n", warning);
  print_start_line(loaded, dtype);
  const ModelSizes& config = loaded.model->sizes;
  if (verbose)
    fmt::print(stderr, "lathe: {} in {:.2f} s: {} parameters, {} layers; cache {}, context {}\n",
               loaded.checkpoint.path, seconds.count(), count_parameters(*loaded.model), config.num_hidden_layers,
               name(cache_dtype(loaded)), context_limit(config));
  return loaded;
}

DType ModelOptions::cache_dtype(const LoadedModel& loaded) const {
  return kv_cache_dtype.empty() ? loaded.cache_dtype : parse_cache_dtype(kv_cache_dtype);
}

int64_t ModelOptions::context_limit(const ModelSizes& config) const {
  const int64_t limit = config.context_limit();
  if (config.context_limit(context) > limit)
    fmt::print(stderr, "lathe: warning: --context {} is beyond the {} positions that the model was trained for\n",
               context, limit);
  return config.context_limit(context);
}

size_t ModelOptions::kv_memory_bytes() const { return kv_memory.empty() ? 0 : parse_size(kv_memory, "--kv-memory"); }

std::vector<int32_t> parse_tokens(const std::string& text, const char* option) {
  std::vector<int32_t> tokens;
  for (size_t begin = 0; begin <= text.size() && !text.empty();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string_view part(text.data() + begin, end - begin);
    part.remove_prefix(std::min(part.find_first_not_of(" \t\r\n"), part.size()));
    part.remove_suffix(part.size() - 1 - part.find_last_not_of(" \t\r\n"));
    int32_t id = 0;
    const auto [rest, error] = std::from_chars(part.data(), part.data() + part.size(), id);
    if (error != std::errc() || rest != part.data() + part.size())
      throw UsageError(fmt::format("{}: expected ids separated by commas, found \"{}\"", option, part));
    tokens.push_back(id);
    begin = end + 1;
  }
  return tokens;
}

void check_tokens(const std::vector<int32_t>& tokens, int64_t vocab_size) {
  check(!tokens.empty(), "tokens", "expected at least one, found none");
  for (size_t i = 0; i < tokens.size(); ++i)
    check(tokens[i] >= 0 && tokens[i] < vocab_size, "tokens", "id {} at position {} is outside the vocabulary [0, {})",
          tokens[i], i, vocab_size);
}

void check_context(int64_t tokens, int64_t limit) {
  if (tokens > limit)
    throw Error(fmt::format("the prompt has {} tokens, the context holds {}", tokens, limit),
                "shorten the prompt, or take a rotary model further with --context");
}

size_t parse_size(const std::string& text, const char* option) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1.0},     {"B", 1.0},    {"KB", 1e3},   {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},    {"K", 0x1p10},
      {"M", 0x1p20}, {"G", 0x1p30}, {"T", 0x1p40}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  for (const auto& [spelling, factor] : kUnits)
    if (error == std::errc() && unit == spelling && value > 0 && value * factor < 0x1p62)
      return static_cast<size_t>(value * factor);
  throw UsageError(fmt::format("{}: expected a size such as 512MiB or 2GB, found \"{}\"", option, text));
}

std::string read_text(const std::string& path) {
  const bool standard = path == "-";
  if (standard && !world().is_first()) return world().broadcast("");
  const std::string name = standard ? "standard input" : path;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> opened(standard ? nullptr : std::fopen(path.c_str(), "rb"),
                                                               [](std::FILE* file) { return std::fclose(file); });
  std::FILE* file = standard ? stdin : opened.get();
  std::string text;
  if (file) {
    char part[1 << 16];
    while (const size_t size = std::fread(part, 1, sizeof part, file)) text.append(part, size);
  }
  if (!file || std::ferror(file)) throw Error(fmt::format("{}: cannot be read: {}", name, std::strerror(errno)));
  refuse_git_lfs_pointer(text, name);
  return standard ? world().broadcast(text) : text;
}

}  // namespace lathe
