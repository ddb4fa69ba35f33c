// lathe serve: models behind the APIs that clients speak.
#include <fmt/core.h>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "tensor/errors.h"

#ifdef LATHE_SERVE
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>

#include "cli/engine_options.h"
#include "formats/strict_json.h"
#include "generate/inference_plan.h"
#include "generate/kv_memory.h"
#include "serve/server.h"
#include "tensor/communicator.h"
#endif

namespace lathe {

#ifdef LATHE_SERVE
namespace {

struct ServeOptions {
  ModelOptions model;
  ServerOptions server;
  std::vector<std::string> models, adapters;  // "NAME=PATH", or a path
  std::string api_key_file, speculate, chat_template, metric_names = "lathe";
  bool always_usage = false;
  double memory_share = 0.8;
  int64_t port = 8000, max_batch_tokens = EngineOptions().max_batch_tokens;
};

std::vector<std::string> read_keys(const std::string& path) {
  std::vector<std::string> keys;
  if (path.empty()) return keys;
  for_each_text_line(read_text(path), [&](std::string_view line, int64_t) { keys.emplace_back(line); });
  check(!keys.empty(), "--api-key-file", "{} holds no key", path);
  return keys;
}

// The name and the path of "NAME=PATH", or of a path, whose last part without .gguf is the name.
std::pair<std::string, std::string> name_and_path(const std::string& given) {
  if (const size_t equals = given.find('='); equals != std::string::npos && !std::filesystem::exists(given))
    return {given.substr(0, equals), given.substr(equals + 1)};
  std::filesystem::path path(given);
  if (!path.has_filename()) path = path.parent_path();
  return {path.extension() == ".gguf" ? path.stem().string() : path.filename().string(), given};
}

// Those with a name; the one without changes the model.
std::map<std::string, std::string> take_adapters(ServeOptions& o) {
  std::map<std::string, std::string> named;
  for (const std::string& given : o.adapters) {
    if (std::filesystem::exists(given) || given.find('=') == std::string::npos) {
      check(o.model.adapter.empty() && o.models.size() == 1, "--adapter",
            "{} would change the model: NAME={} is for requests that name it", given, given);
      o.model.adapter = given;
    } else {
      const auto [name, folder] = name_and_path(given);
      check(named.emplace(name, folder).second, "--adapter", "{} names two", name);
    }
  }
  return named;
}

// Loads models one after the other, as their engines ask: what one takes, the next one finds taken. After one has
// failed the server ends, and no other is begun.
class Loader {
 public:
  explicit Loader(const ServeOptions& options) : options_(options) {}

  std::unique_ptr<ChatModel> load(const std::string& path, const std::map<std::string, std::string>& adapters) {
    const std::lock_guard lock(mutex_);
    check(!std::exchange(failed_, true), "load", "{}: another model could not be loaded", path);
    ModelOptions model = options_.model;
    model.model = path;
    model.request_adapters = adapters;
    auto loaded = std::make_unique<ChatModel>(
        load_chat_model(model, options_.speculate, [&](const LoadedModel& of, EngineOptions& engine) {
          engine.max_sequences = options_.server.max_sequences;
          engine.max_batch_tokens = std::max(options_.max_batch_tokens, engine.max_sequences);
          if (engine.kv_memory == 0) engine.kv_memory = memory_for_cache(model, of, engine);
        }));
    if (!options_.chat_template.empty()) loaded->set_chat_template(read_text(options_.chat_template));
    loaded->engine();
    // A device has taken it already; the host does so page by page.
    if (loaded->loaded().model->device().kind == Device::Kind::cpu) promised_ += loaded->engine().cache().bytes();
    ++loaded_;
    failed_ = false;
    return loaded;
  }

 private:
  // This model's part of what is left: --memory-share of what is available, less what the largest step takes. The
  // models that are still to come get as much each.
  size_t memory_for_cache(const ModelOptions& model, const LoadedModel& loaded, const EngineOptions& engine) const {
    LoadOptions load = model.load_options();
    load.ranks = loaded.model->ranks;
    load.request_adapters.clear();
    const int64_t context = loaded.model->sizes.context_limit(engine.context);
    const InferencePlan plan =
        plan_inference(open_model(model.model, load),
                       {context, engine.max_sequences, engine.max_batch_tokens, engine.cache_dtype, load});
    const size_t step = plan.activations + plan.graphs + sizeof(float) * kScoredLogits;
    const auto available =
        static_cast<size_t>(options_.memory_share * static_cast<double>(available_memory(load.device)));
    const size_t sharing = (options_.models.size() - loaded_) * static_cast<size_t>(load.ranks->size());
    if (available <= promised_ + step)
      throw Error(fmt::format("serve: {}: the largest step takes {:.1f} MB of the {:.1f} MB that are left: none is for "
                              "the key-value cache",
                              model.model, 1e-6 * static_cast<double>(step),
                              1e-6 * static_cast<double>(available - std::min(available, promised_))),
                  "fewer --max-batch-tokens or --max-sequences take less; --kv-memory says how much the cache gets");
    return (available - promised_ - step) / sharing;
  }

  const ServeOptions& options_;
  std::mutex mutex_;
  bool failed_ = false;
  size_t loaded_ = 0, promised_ = 0;  // models; bytes of their caches, most of which nothing was written to yet
};

Server* running_server = nullptr;

// SIGTERM and SIGINT stop the server while there is one; when it goes it is ending already.
struct HeardSignals {
  explicit HeardSignals(Server& server) {
    running_server = &server;
    for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, [](int) { running_server->stop(); });
  }
  ~HeardSignals() {
    for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, SIG_IGN);
  }
  HeardSignals(const HeardSignals&) = delete;
  HeardSignals& operator=(const HeardSignals&) = delete;
};

// Runs what the first rank runs, until that one's server has ended: signals are for it to heed.
void follow(Loader& loader, const std::string& model) {
  for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, SIG_IGN);
  loader.load(model, {})->engine().follow();
}

void run_serve(ServeOptions& o) {
  o.server.port = static_cast<int>(o.port);
  o.server.api_keys = read_keys(o.api_key_file);
  check(o.memory_share > 0 && o.memory_share <= 1, "--memory-share", "{}, expected more than 0 and at most 1",
        o.memory_share);
  if (o.metric_names == "vllm") o.server.metric_names = MetricNames::vllm;
  std::map<std::string, std::string> adapters = take_adapters(o);  // the first model's
  const auto loader = std::make_shared<Loader>(o);
  if (!world().alone()) {
    check(o.models.size() == 1, "--model", "{} of them, several processes share one model out", o.models.size());
    check(adapters.empty(), "--adapter", "several processes that share a model out take no adapters by request");
    if (!world().is_first()) return follow(*loader, name_and_path(o.models[0]).second);
  }
  std::vector<ModelToServe> models;
  for (const std::string& given : o.models) {
    const auto named = name_and_path(given);
    models.push_back({named.first, [loader, named, adapters] { return loader->load(named.second, adapters); }});
    models.back().always_usage = o.always_usage;
    for (const auto& [name, folder] : std::exchange(adapters, {})) models.back().adapters.push_back(name);
  }
  Server server(o.server, std::move(models));
  const bool loopback = o.server.host == "127.0.0.1" || o.server.host == "::1" || o.server.host == "localhost";
  fmt::print(stderr, "lathe: listening on http://{}:{} ({})\n", o.server.host, server.port(),
             loopback                    ? "this machine alone; --host 0.0.0.0 for others"
             : o.server.api_keys.empty() ? "other machines too, without a key: --api-key-file asks for one"
                                         : "other machines too, with a key");
  const HeardSignals signals(server);
  server.run();
  if (!server.loading()) return;
  abort_world(0);  // the others wait for this rank's part of the load
  std::_Exit(0);   // nothing is written that could be left half done
}

}  // namespace

void add_serve(CommandLine& app) {
  const auto o = std::make_shared<ServeOptions>();
  const Command command = app.add("serve", "a server with OpenAI's and Anthropic's APIs");
  o->model.declare(command);
  command.remove("--model");
  command.option("--model", o->models, "folder, file, or name of a model; NAME=MODEL: what requests call it (repeated)")
      .required();
  command.remove("--adapter");
  command.option("--adapter", o->adapters,
                 "folder of an adapter in PEFT's form, which changes the model; NAME=DIR: for requests whose model is "
                 "NAME alone, of the first model (repeated)");
  command.find("--kv-memory")
      .description("memory for the key-value cache of each model, such as 512MiB; default: what is left");
  command
      .option("--memory-share", o->memory_share,
              "of the memory that is available, at most, where --kv-memory says nothing")
      .shows_default();
  command.option_file();
  command.option("--host", o->server.host, "address to listen on; 0.0.0.0: all").shows_default();
  command.option("--port", o->port, "0: any that is free").shows_default().between(0, 65535);
  command.option("--api-key-file", o->api_key_file, "a key a line; requests must bring one of them");
  command.flag("--cache-by-key", o->server.cache_by_key,
               "requests with different keys share no prefixes: how fast one is tells nothing of others'");
  command.option("--cors-origin", o->server.cors_origins, "whose pages may ask, such as https://example.org; *: all");
  command.option("--max-sequences", o->server.max_sequences, "that are computed at once")
      .shows_default()
      .between(1, 4096);
  command.option("--max-batch-tokens", o->max_batch_tokens, "tokens of a step").shows_default().between(1, 1 << 20);
  command.option("--max-queue", o->server.max_queue, "sequences that may wait; more get 429")
      .shows_default()
      .between(0, 1 << 20);
  command.option("--request-timeout", o->server.request_timeout, "seconds an answer may take; 0: any");
  command.option("--data-dir", o->server.data_dir, "where files and batches are kept; without it there are none");
  command.option("--stats-seconds", o->server.stats_seconds,
                 "between lines of load and speed on standard error; 0: none");
  command.flag("--always-usage", o->always_usage, "streams end with usage, whether a request asks for it or not");
  command.option("--metrics-names", o->metric_names, "what /metrics calls things: lathe, or vllm as its dashboards do")
      .shows_default()
      .one_of({"lathe", "vllm"});
  command.option("--speculate", o->speculate, "guess tokens ahead and verify them: ngram, or a smaller model");
  command.option("--chat-template", o->chat_template, "a file whose template takes the place of the model's own");
  command.example("Example: lathe serve --model models/SmolLM2-135M-Instruct.Q4_1.gguf --port 8000");
  command.run([o] { run_serve(*o); });
}

#else

void add_serve(CommandLine& app) {
  const Command command = app.add("serve", "a server with OpenAI's and Anthropic's APIs (this build has none)");
  command.take_any_options();  // what is missing comes before what is wrong
  command.run([] {
    throw Error("serve: this build has no server: libmicrohttpd was not there",
                "apt install libmicrohttpd-dev, then build again");
  });
}

#endif

}  // namespace lathe
