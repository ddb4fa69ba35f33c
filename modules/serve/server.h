// The server: routes, health, deadlines and draining around the engines of the models that are served.
//
// Three kinds of threads: the event loop, which speaks HTTP and writes answers; workers, which parse bodies, render
// templates and tokenise; one a model's engine. They hand things on by posting. What they
// share is locked for a moment: turns that called tools (call_memory.h), and files.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "serve/http_server.h"
#include "serve/served_models.h"

namespace lathe {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;
  std::vector<std::string> api_keys;            // none: nobody is asked
  bool cache_by_key = false;                    // requests of different keys share no pages of the prefix cache
  std::vector<std::string> cors_origins;        // other than the server's own; "*": any
  int64_t max_sequences = 64, max_queue = 256;  // of each model
  double request_timeout = 600;                 // seconds; 0: none
  double stats_seconds = 0;                     // between lines on standard error; 0: none
  std::string data_dir;                         // of files and batches; empty: there are none
  MetricNames metric_names = MetricNames::lathe;
  HttpLimits http = {};
};

class Server {
 public:
  // Listens at once. Throws Error where it cannot.
  Server(const ServerOptions& options, std::vector<ModelToServe> models);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const;
  bool loading() const;
  // Serves until it is drained. Throws Error where a model could not be loaded.
  void run();
  // Once: takes no new requests, finishes those under way and ends run(). Twice: ends it at once. For signal handlers,
  // too.
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lathe
