#include "serve/server.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "formats/strict_json.h"
#include "serve/endpoints.h"
#include "serve/metrics.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
using ExchangePtr = std::shared_ptr<Exchange>;
constexpr int kWorkers = 2;
constexpr auto kFlushTime = std::chrono::seconds(5);   // for answers that are whole, when the server ends
constexpr auto kStuckTime = std::chrono::seconds(60);  // a step that takes longer is taken for a dead engine

// What takes longer than the event loop may: parsing, templates, tokens.
class Workers {
 public:
  Workers() {
    for (int i = 0; i < kWorkers; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Workers() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  void post(std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }

 private:
  void work() {
    while (true) {
      std::function<void()> task;  // gone before the next is waited for, with the body that it holds
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
        if (stopping_) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// As long for a wrong key as for the right one.
bool same_text(const std::string& a, const std::string& b) {
  unsigned difference = a.size() != b.size();
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ (i < b.size() ? b[i] : ~a[i]));
  return difference == 0;
}

void respond_json(Exchange& exchange, const Json& json, int status = 200) { exchange.respond(status, dump_json(json)); }

void respond_error(Exchange& exchange, const ApiError& e) {
  const bool anthropic = exchange.request.path.starts_with("/v1/messages");
  HttpHeaders headers;
  if (e.status() == 429 || e.status() == 503) headers.emplace_back("Retry-After", "1");
  if (e.status() == 401) headers.emplace_back("WWW-Authenticate", "Bearer");
  exchange.respond(e.status(), dump_json(anthropic ? e.anthropic() : e.openai()), std::move(headers));
}

// Whatever was thrown, as the API says it.
ApiError api_error(const std::exception& e) {
  if (const auto* ours = dynamic_cast<const ApiError*>(&e)) return *ours;
  if (const auto* request = dynamic_cast<const RequestError*>(&e)) return {400, request->what(), request->field()};
  if (const auto* busy = dynamic_cast<const BusyError*>(&e)) return {429, busy->what()};
  if (const auto* error = dynamic_cast<const Error*>(&e))
    return {400, error->hint().empty() ? error->what() : fmt::format("{}; {}", error->what(), error->hint())};
  return {500, e.what()};
}

// Whether a Host is this machine's: a page of another name that resolves to it has its own name there.
bool own_host(const std::string& host, const std::string& listens) {
  const std::string name = host.substr(0, host.starts_with('[') ? host.find(']') + 1 : host.find(':'));
  return name == "localhost" || name == "127.0.0.1" || name == "[::1]" || name == listens;
}

}  // namespace

std::string new_id(const char* prefix) {
  static const auto start = static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  static std::atomic<uint64_t> count = 0;
  return fmt::format("{}-{:016x}{:08x}", prefix, start, ++count);
}

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

const Tokenizer& ServedModel::tokenizer() const {
  if (!chat().has_tokenizer()) throw ApiError(400, fmt::format("the model {} has no tokenizer: it takes ids", id));
  return *chat().tokenizer();
}

struct Server::State {
  // An answer under way.
  struct Job {
    ExchangePtr exchange;
    std::shared_ptr<Answer> answer;
    EngineThread::Ticket ticket = 0;
    bool over = false;
    RequestTimes times;
  };
  using Route = void (*)(State&, const ExchangePtr&);

  ServerOptions options;
  HttpServer http;
  Metrics metrics;
  std::list<std::shared_ptr<Job>> jobs;
  std::optional<std::chrono::steady_clock::time_point>
      flushing_since;  // while the server drains and nothing is computed
  std::chrono::steady_clock::time_point stats_time = std::chrono::steady_clock::now();
  uint64_t stats_generated = 0, stats_prompts = 0;  // then
  std::atomic<int> stops = 0;
  EngineThread engine;
  ServedModel model;
  std::atomic<size_t> working_bytes = 0;  // of bodies that wait for a worker or are read by one
  Workers workers;

  State(const ServerOptions& o, EngineThread::Load load)
      : options(o),
        http(o.host, o.port, o.http),
        engine(std::move(load), o.max_sequences + o.max_queue, [this] { http.post([this] { loaded(); }); }),
        model{o.model_id, engine, unix_seconds()} {
    http.handle([this](const ExchangePtr& exchange) { handle(exchange); }, [this](Exchange& e) { admit(e); });
    http.on_tick([this] { tick(); });
  }

  bool draining() const { return stops > 0; }
  void loaded();
  void admit(Exchange& exchange) const;
  void handle(const ExchangePtr& exchange);
  bool health(Exchange& exchange) const;
  void list_models(Exchange& exchange) const;
  using MakeAnswer = std::unique_ptr<Answer> (*)(const ServedModel&, const OrderedJsonNode&);
  using MakeJson = Json (*)(const ServedModel&, const OrderedJsonNode&);
  void with_body(const ExchangePtr& exchange, std::function<void(const OrderedJsonNode&)> f);
  void generate(const ExchangePtr& exchange, MakeAnswer make);
  void compute(const ExchangePtr& exchange, MakeJson make);
  void submit(const ExchangePtr& exchange, std::shared_ptr<Answer> answer);
  void take(Job& job, AnswerEvents events);
  void write(Job& job, const AnswerEvents& events);
  void fail(Job& job, const ApiError& error);
  void close(Job& job);
  void tick();
  void print_stats();
};

// Health is for whoever watches; all else is for who has a key, and for pages that may ask.
void Server::State::admit(Exchange& exchange) const {
  const HttpRequest& r = exchange.request;
  if (const std::string origin = r.header("origin"); !origin.empty()) {
    const auto& allowed = options.cors_origins;
    const bool listed =
        std::any_of(allowed.begin(), allowed.end(), [&](const auto& o) { return o == "*" || o == origin; });
    const std::string host = r.header("host");
    const bool own = own_host(host, options.host) && (origin == "http://" + host || origin == "https://" + host);
    if (!listed && !own)
      return respond_error(exchange,
                           {403, fmt::format("pages of {} may not ask: --cors-origin allows them", quote(origin))});
    exchange.common_headers.emplace_back("Access-Control-Allow-Origin", origin);
    exchange.common_headers.emplace_back("Vary", "Origin");
  }
  if (r.method == "OPTIONS")
    return exchange.respond(204, "",
                            {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                             {"Access-Control-Allow-Headers", "*, Authorization"},
                             {"Access-Control-Max-Age", "600"}});
  const uint64_t bytes = std::strtoull(r.header("content-length").c_str(), nullptr, 10);
  if (bytes > options.http.body)
    return respond_error(exchange,
                         {413, fmt::format("the body has {} bytes, at most {} are read", bytes, options.http.body)});
  if (http.body_bytes() + working_bytes + bytes > options.http.bodies)
    return respond_error(exchange, {429, "too many requests are being received"});
  if (options.api_keys.empty() || r.path.starts_with("/health")) return;
  std::string given = r.header("x-api-key");
  if (const std::string bearer = r.header("authorization"); bearer.starts_with("Bearer ")) given = bearer.substr(7);
  bool known = false;
  for (const std::string& key : options.api_keys) known |= same_text(key, given);
  if (!known)
    respond_error(exchange, {401,
                             given.empty() ? "an API key is needed: Authorization: Bearer KEY, or x-api-key: KEY"
                                           : "the API key is wrong",
                             {},
                             "invalid_api_key"});
}

bool Server::State::health(Exchange& exchange) const {
  const std::string& path = exchange.request.path;
  const EngineThread::State state = engine.state();
  if (path == "/health/live") {
    const bool moves = engine.silence() < kStuckTime;
    respond_json(exchange, {{"status", moves ? "alive" : "stuck"}, {"step_ms", engine.silence().count()}},
                 moves ? 200 : 503);
  } else if (path == "/health" || path == "/health/ready") {
    const bool ready = state == EngineThread::State::ready && !(draining() && path == "/health/ready");
    respond_json(exchange,
                 {{"status", state == EngineThread::State::failed    ? "failed"
                             : state == EngineThread::State::loading ? "loading"
                             : draining()                            ? "draining"
                                                                     : "ready"}},
                 ready ? 200 : 503);
  } else {
    return false;
  }
  return true;
}

void Server::State::list_models(Exchange& exchange) const {
  const std::string &path = exchange.request.path, prefix = "/v1/models/";
  if (path == "/v1/models")
    return respond_json(exchange, {{"object", "list"}, {"data", Json::array({describe_model(model)})}});
  if (path.substr(prefix.size()) == model.id) return respond_json(exchange, describe_model(model));
  throw ApiError(404, fmt::format("no model {}: {} is served", quote(path.substr(prefix.size())), model.id), "model",
                 "model_not_found");
}

void Server::State::handle(const ExchangePtr& exchange) try {
  const std::string &path = exchange->request.path, &method = exchange->request.method;
  const bool get = method == "GET" || method == "HEAD";
  if (exchange->request.too_long)
    throw ApiError(413, fmt::format("the body has more than {} bytes", options.http.body));
  if (get && health(*exchange)) return;
  if (get && path == "/version") return respond_json(*exchange, {{"version", LATHE_VERSION}});
  if (get && path == "/metrics")
    return exchange->respond(200, metrics.text(engine, model.id), {{"Content-Type", "text/plain; version=0.0.4"}});

  static const std::map<std::string, std::pair<const char*, Route>> routes = {
      {"/v1/completions", {"POST", [](State& s, const ExchangePtr& e) { s.generate(e, make_completion); }}},
      {"/v1/chat/completions", {"POST", [](State& s, const ExchangePtr& e) { s.generate(e, make_chat_completion); }}},
      {"/v1/messages", {"POST", [](State& s, const ExchangePtr& e) { s.generate(e, make_message); }}},
      {"/v1/messages/count_tokens",
       {"POST", [](State& s, const ExchangePtr& e) { s.compute(e, count_message_tokens); }}},
      {"/tokenize", {"POST", [](State& s, const ExchangePtr& e) { s.compute(e, tokenize); }}},
      {"/render", {"POST", [](State& s, const ExchangePtr& e) { s.compute(e, render); }}},
      {"/detokenize", {"POST", [](State& s, const ExchangePtr& e) { s.compute(e, detokenize); }}},
      {"/tokenizer_info", {"GET", [](State& s, const ExchangePtr& e) { respond_json(*e, tokenizer_info(s.model)); }}},
      {"/v1/models", {"GET", [](State& s, const ExchangePtr& e) { s.list_models(*e); }}},
  };
  const auto found = routes.find(path.starts_with("/v1/models/") ? "/v1/models" : path);
  if (found == routes.end()) throw ApiError(404, fmt::format("no endpoint {}", quote(path)));
  const auto& [wanted, route] = found->second;
  if (method != wanted && !(get && wanted == std::string("GET")))
    throw ApiError(405, fmt::format("{} takes {}, found {}", path, wanted, method));
  if (engine.state() == EngineThread::State::loading) throw ApiError(503, "the model is still loading");
  if (engine.state() == EngineThread::State::failed) throw ApiError(503, "the model could not be loaded");
  if (draining()) throw ApiError(503, "the server is shutting down");
  route(*this, exchange);
} catch (const std::exception& e) {
  respond_error(*exchange, api_error(e));
}

// f(body) on a worker. What it throws is the answer.
void Server::State::with_body(const ExchangePtr& exchange, std::function<void(const OrderedJsonNode&)> f) {
  std::string taken = exchange->take_body();
  working_bytes += taken.size();
  workers.post([this, exchange, f = std::move(f), text = std::move(taken)] {
    try {
      const Json body = parse_ordered_json(text, "body");
      f({body, "body"});
    } catch (const std::exception& e) {
      http.post([exchange, error = api_error(e)] { respond_error(*exchange, error); });
    }
    working_bytes -= text.size();
  });
}

void Server::State::compute(const ExchangePtr& exchange, MakeJson make) {
  with_body(exchange, [this, exchange, make](const OrderedJsonNode& body) {
    http.post([exchange, json = dump_json(make(model, body))] { exchange->respond(200, json); });
  });
}

void Server::State::generate(const ExchangePtr& exchange, MakeAnswer make) {
  metrics.arrived();
  with_body(exchange, [this, exchange, make](const OrderedJsonNode& body) {
    std::shared_ptr<Answer> answer = make(model, body);
    http.post([this, exchange, answer] { submit(exchange, answer); });
  });
}

void Server::State::submit(const ExchangePtr& exchange, std::shared_ptr<Answer> answer) try {
  if (exchange->over()) return;  // the client has left meanwhile
  const auto job = std::make_shared<Job>();
  job->exchange = exchange;
  job->answer = std::move(answer);
  job->ticket = engine.submit(std::move(job->answer->requests), [this, job](AnswerEvents events) {
    http.post([this, job, events = std::move(events)]() mutable { take(*job, std::move(events)); });
  });
  jobs.push_back(job);
  exchange->on_leave([this, weak = std::weak_ptr<Job>(job)] {
    const auto left = weak.lock();
    if (!left || left->over) return;
    engine.cancel(left->ticket);
    close(*left);
  });
  if (!job->answer->stream) return;
  exchange->begin_stream();
  job->answer->begin(*exchange);
} catch (const std::exception& e) {
  respond_error(*exchange, api_error(e));
}

void Server::State::take(Job& job, AnswerEvents events) {
  if (job.over) return;
  try {
    write(job, events);
  } catch (const std::exception& e) {  // a fault of ours: the answer ends, the server goes on
    engine.cancel(job.ticket);
    fail(job, {500, e.what()});
  }
}

void Server::State::write(Job& job, const AnswerEvents& events) {
  if (!events.failure.empty()) return fail(job, {500, events.failure});
  for (const AnswerEvents::Event& e : events.events) {
    metrics.take(job.times, e.event);
    if (e.event.completion && e.event.completion->finish_reason == FinishReason::error) {
      engine.cancel(job.ticket);
      return fail(job, {500, e.event.completion->error});
    }
    job.answer->take(*job.exchange, e.request, e.event);
  }
  if (!events.finished) return;
  job.answer->finish(*job.exchange);
  metrics.finished(job.times);
  close(job);
}

void Server::State::fail(Job& job, const ApiError& error) {
  if (job.exchange->streams())
    job.answer->fail(*job.exchange, error);
  else
    respond_error(*job.exchange, error);
  close(job);
}

void Server::State::close(Job& job) {
  job.over = true;
  jobs.remove_if([&](const auto& other) { return other.get() == &job; });
}

void Server::State::loaded() {
  if (engine.state() == EngineThread::State::failed) return http.stop();
  fmt::print(stderr, "lathe: ready: http://{}:{}\n", options.host, http.port());
}

void Server::State::tick() {
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::shared_ptr<Job>> late;
  for (const auto& job : jobs)
    if (options.request_timeout > 0 && now - job->times.begin > std::chrono::duration<double>(options.request_timeout))
      late.push_back(job);
  for (const auto& job : late) {
    engine.cancel(job->ticket);
    fail(*job, {504, fmt::format("the answer took longer than {} s (--request-timeout)", options.request_timeout)});
  }
  print_stats();
  if (stops > 1) return http.stop();
  if (!draining()) return;
  if (!flushing_since) fmt::print(stderr, "lathe: shutting down: {} answers are finished first\n", jobs.size());
  if (!flushing_since || !jobs.empty()) flushing_since = now;
  if (engine.state() == EngineThread::State::loading) return http.stop();
  if (jobs.empty() && (http.open_exchanges() == 0 || now - *flushing_since > kFlushTime)) http.stop();
}

// A line of what there was to do since the last one, where anything was.
void Server::State::print_stats() {
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double> since = now - stats_time;
  if (options.stats_seconds <= 0 || since.count() < options.stats_seconds) return;
  const uint64_t generated = engine.counters().generated_tokens, prompts = engine.counters().prompt_tokens;
  const Engine::Load load = engine.load();
  if (generated + prompts > stats_generated + stats_prompts)
    fmt::print(stderr,
               "lathe: {} running, {} waiting; {:.1f} tokens/s generated, {:.1f} of prompts; pages: {} used, {} cached "
               "of {}\n",
               load.running, load.waiting, static_cast<double>(generated - stats_generated) / since.count(),
               static_cast<double>(prompts - stats_prompts) / since.count(), load.used_pages, load.cached_pages,
               load.pages);
  stats_time = now;
  stats_generated = generated;
  stats_prompts = prompts;
}

Server::Server(const ServerOptions& options, EngineThread::Load load)
    : state_(std::make_unique<State>(options, std::move(load))) {}
Server::~Server() = default;
int Server::port() const { return state_->http.port(); }
bool Server::loading() const { return state_->engine.state() == EngineThread::State::loading; }
void Server::stop() { ++state_->stops; }

void Server::run() {
  state_->http.run();
  if (state_->engine.state() == EngineThread::State::failed) throw Error(state_->engine.failure());
}

}  // namespace lathe
