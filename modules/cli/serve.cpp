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
#include <mutex>

#include "cli/engine_options.h"
#include "formats/strict_json.h"
#include "serve/server.h"
#endif

namespace lathe {

#ifdef LATHE_SERVE
namespace {

struct ServeOptions {
  ModelOptions model;
  ServerOptions server;
  std::vector<std::string> models;  // "NAME=PATH", or a path
  std::string api_key_file, speculate, chat_template;
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

// Loads models one after the other, as their engines ask: what one takes, the next one finds taken. After one has
// failed the server ends, and no other is begun.
class Loader {
 public:
  explicit Loader(const ServeOptions& options) : options_(options) {}

  std::unique_ptr<ChatModel> load(const std::string& path) {
    const std::lock_guard lock(mutex_);
    check(!std::exchange(failed_, true), "load", "{}: another model could not be loaded", path);
    ModelOptions model = options_.model;
    model.model = path;
    auto loaded = std::make_unique<ChatModel>(
        load_chat_model(model, options_.speculate, options_.server.max_sequences, options_.max_batch_tokens));
    if (!options_.chat_template.empty()) loaded->set_chat_template(read_text(options_.chat_template));
    loaded->engine();
    failed_ = false;
    return loaded;
  }

 private:
  const ServeOptions& options_;
  std::mutex mutex_;
  bool failed_ = false;
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

void run_serve(ServeOptions& o) {
  o.server.port = static_cast<int>(o.port);
  o.server.api_keys = read_keys(o.api_key_file);
  check(o.models.size() == 1 || o.model.adapter.empty(), "--adapter", "{} models are served, it would change each",
        o.models.size());
  const auto loader = std::make_shared<Loader>(o);
  std::vector<ModelToServe> models;
  for (const std::string& given : o.models) {
    const auto named = name_and_path(given);
    models.push_back({named.first, [loader, path = named.second] { return loader->load(path); }});
  }
  Server server(o.server, std::move(models));
  const bool loopback = o.server.host == "127.0.0.1" || o.server.host == "::1" || o.server.host == "localhost";
  fmt::print(stderr, "lathe: listening on http://{}:{} ({})\n", o.server.host, server.port(),
             loopback                    ? "this machine alone; --host 0.0.0.0 for others"
             : o.server.api_keys.empty() ? "other machines too, without a key: --api-key-file asks for one"
                                         : "other machines too, with a key");
  const HeardSignals signals(server);
  server.run();
  if (server.loading()) std::_Exit(0);  // nothing is written that could be left half done
}

}  // namespace

void add_serve(CommandLine& app) {
  const auto o = std::make_shared<ServeOptions>();
  const Command command = app.add("serve", "a server with OpenAI's and Anthropic's APIs");
  o->model.declare(command);
  command.remove("--model");
  command.option("--model", o->models, "folder, file, or name of a model; NAME=MODEL: what requests call it (repeated)")
      .required();
  command.find("--kv-memory").description("memory for the key-value cache of each model, such as 512MiB");
  command.option("--host", o->server.host, "address to listen on; 0.0.0.0: all").shows_default();
  command.option("--port", o->port, "0: any that is free").shows_default().between(0, 65535);
  command.option("--api-key-file", o->api_key_file, "a key a line; requests must bring one of them");
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
  command.option("--speculate", o->speculate, "guess tokens ahead and verify them: ngram, or a smaller model");
  command.option("--chat-template", o->chat_template, "a file whose template takes the place of the model's own");
  command.example("Example: lathe serve --model models/SmolLM2-135M-Instruct.Q4_1.gguf --port 8000");
  command.run([o] { run_serve(*o); });
}

#else

void add_serve(CommandLine& app) {
  const Command command = app.add("serve", "a server with OpenAI's and Anthropic's APIs (this build has none)");
  command.run([] {
    throw Error("serve: this build has no server: libmicrohttpd was not there",
                "apt install libmicrohttpd-dev, then build again");
  });
}

#endif

}  // namespace lathe
