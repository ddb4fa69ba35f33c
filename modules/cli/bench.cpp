// lathe bench: prefill and decode speed of one model, the throughput of a random workload, or training steps.
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/json_file.h"
#include "cli/profile_report.h"
#include "generate/generate.h"
#include "llm/weight_reads.h"
#include "tensor/cpu_features.h"
#include "tensor/memory_bandwidth.h"
#include "tensor/process_memory.h"
#include "tensor/random.h"
#include "tensor/threads.h"
#include "train/training_speed.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

struct BenchOptions {
  ModelOptions model;
  std::string train;  // a recipe
  std::vector<std::string> settings;
  int64_t steps = 10;
  int64_t prompt_tokens = 512, new_tokens = 128, batch = 1, repetitions = 5, requests = 0;
  uint64_t seed = 0;
  std::string input_length = "100:1024", output_length = "100:1024";
  bool json = false;
};

Json summary(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  const double median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  return {{"median", median}, {"min", values.front()}, {"max", values.back()}};
}

// `seed` and `request` fix the ids, whatever the machine.
Request fixed_request(int64_t prompt, int64_t answer, int64_t vocab_size, uint64_t seed, uint64_t request) {
  Request r;
  for (int64_t i = 0; i < prompt; ++i)
    r.prompt.push_back(static_cast<int32_t>(random_uniform(seed, request, static_cast<uint64_t>(i)) *
                                            static_cast<double>(vocab_size)));
  r.max_new_tokens = answer;
  r.ignore_eos = true;
  return r;
}

std::pair<int64_t, int64_t> parse_range(const std::string& text, const char* option) {
  long long low = 0, high = 0;
  char rest = 0;
  if (std::sscanf(text.c_str(), "%lld:%lld%c", &low, &high, &rest) != 2 || low < 1 || high < low)
    throw UsageError(fmt::format("{}: expected LOW:HIGH with 1 <= LOW <= HIGH, found \"{}\"", option, text));
  return {low, high};
}

Json measure_speed(const BenchOptions& o, Engine& engine, int64_t vocab_size) {
  std::vector<Request> requests;
  for (int64_t b = 0; b < o.batch; ++b)
    requests.push_back(fixed_request(o.prompt_tokens, o.new_tokens, vocab_size, o.seed, static_cast<uint64_t>(b)));
  std::vector<double> prefill, decode;
  for (int64_t round = 0; round <= o.repetitions; ++round) {
    const GenerationTiming t = generate(engine, requests).timing;
    if (round == 0) continue;  // untimed: pages are touched and caches filled
    prefill.push_back(t.prefill_tokens_per_second());
    decode.push_back(t.decode_tokens_per_second());
  }
  return {{"prefill_tokens_per_second", summary(prefill)}, {"decode_tokens_per_second", summary(decode)}};
}

Json measure_workload(const BenchOptions& o, Engine& engine, int64_t vocab_size) {
  const auto [shortest_in, longest_in] = parse_range(o.input_length, "--input-length");
  const auto [shortest_out, longest_out] = parse_range(o.output_length, "--output-length");
  std::vector<Request> requests;
  int64_t prompt_tokens = 0, generated_tokens = 0;
  for (uint64_t r = 0; r < static_cast<uint64_t>(o.requests); ++r) {
    const auto pick = [&](int64_t low, int64_t high, uint64_t index) {
      return low + static_cast<int64_t>(random_uniform(o.seed, ~r, index) * static_cast<double>(high - low + 1));
    };
    const int64_t in = pick(shortest_in, longest_in, 0), out = pick(shortest_out, longest_out, 1);
    requests.push_back(fixed_request(in, out, vocab_size, o.seed, r));
    prompt_tokens += in;
    generated_tokens += out;
  }
  const GenerationTiming t = generate(engine, requests).timing;
  const double seconds = t.prefill_seconds + t.decode_seconds;
  return {{"requests", o.requests},
          {"prompt_tokens", prompt_tokens},
          {"generated_tokens", generated_tokens},
          {"seconds", seconds},
          {"generated_tokens_per_second", static_cast<double>(generated_tokens) / seconds}};
}

void print(const Json& result, bool json) {
  if (json) {
    fmt::print("{}\n", dump_line(result));
    return;
  }
  for (const auto& [key, value] : result.items())
    fmt::print("{:28} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
}

void run_training_bench(const BenchOptions& o) {
  o.model.apply_machine_options();
  const Device device = o.model.load_options().device;
  ProfileReport profile(o.model);
  const TrainingSpeed speed = measure_training_speed(read_recipe(o.train, o.settings), o.steps, device);
  profile.finish();
  std::vector<double> rates, milliseconds;
  for (const double seconds : speed.step_seconds) {
    rates.push_back(static_cast<double>(speed.tokens_a_step) / seconds);
    milliseconds.push_back(1e3 * seconds);
  }
  const Json tokens_per_second = summary(rates);
  print({{"tokens_per_second", tokens_per_second},
         {"step_ms", summary(milliseconds)},
         {"model_gflops_per_second",
          tokens_per_second["median"].get<double>() * static_cast<double>(speed.operations_a_token) / 1e9},
         {"peak_memory_bytes", peak_resident_memory()},
         {"parameters", speed.parameters},
         {"threads", thread_team().size()},
         {"device", to_string(device)},
         {"cpu_isa", name(cpu_isa())}},
        o.json);
}

void run_bench(const BenchOptions& o) {
  if (!o.train.empty()) return run_training_bench(o);
  if (o.model.model.empty()) throw UsageError("expected --model or --train");
  const LoadedModel loaded = o.model.load();
  EngineOptions options = engine_options(o.model, loaded);
  options.prefix_cache = false;  // the rounds repeat their prompts, which are to be computed each time
  options.max_sequences = std::max(options.max_sequences, o.batch);
  Engine engine(*loaded.model, nullptr, options);
  if (engine.follow()) return;
  const int64_t vocab_size = loaded.model->sizes.vocab_size;
  ProfileReport profile(o.model);
  Json result = o.requests > 0 ? measure_workload(o, engine, vocab_size) : measure_speed(o, engine, vocab_size);
  result["peak_memory_bytes"] = peak_resident_memory();
  profile.finish();
  result["weight_bytes"] = weight_bytes(*loaded.model);
  const double bandwidth = measure_read_bandwidth();
  result["read_bandwidth_gb_s"] = bandwidth / 1e9;
  if (o.requests == 0)
    result["decode_bandwidth_share"] = result["decode_tokens_per_second"]["median"].get<double>() *
                                       static_cast<double>(decode_weight_bytes(*loaded.model)) /
                                       static_cast<double>(o.batch) / bandwidth;
  result["threads"] = thread_team().size();
  result["device"] = to_string(loaded.model->device());
  result["cpu_isa"] = name(cpu_isa());
  print(result, o.json);
}

}  // namespace

void add_bench(CommandLine& app) {
  const auto o = std::make_shared<BenchOptions>();
  const Command command = app.add("bench", "measure the speed of prefill and decoding, or of training steps");
  o->model.declare(command);
  command.find("--model").required(false);
  const Option train = command.option("--train", o->train, "instead of --model: training steps of this recipe");
  train.excludes(command.find("--model"));
  command.option("--set", o->settings, "section.key=value in place of what the recipe says; may be repeated");
  command.option("--steps", o->steps, "timed training steps after an untimed one").shows_default().between(1, 1 << 20);
  command.option("--prompt-tokens", o->prompt_tokens, "length of the prompt").shows_default().positive();
  command.option("--new-tokens", o->new_tokens, "tokens decoded after it").shows_default().positive();
  command.option("--batch", o->batch, "sequences side by side").shows_default().positive();
  command.option("--repetitions", o->repetitions, "timed rounds after an untimed one").shows_default().positive();
  command.option("--requests", o->requests, "instead: a workload of this many random requests").positive();
  command.option("--seed", o->seed, "of the fixed pseudo-random ids").shows_default();
  command.option("--input-length", o->input_length, "of the workload's prompts").shows_default();
  command.option("--output-length", o->output_length, "of the workload's answers").shows_default();
  command.flag("--json", o->json, "one JSON object");
  command.example("Example: lathe bench --model models/SmolLM2-135M-Instruct.Q4_1.gguf --prompt-tokens 512");
  command.run([o] { run_bench(*o); });
}

}  // namespace lathe
