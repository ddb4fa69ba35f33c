#include "serve/server.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <list>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/strict_json.h"
#include "serve/admission.h"
#include "serve/batch_endpoints.h"
#include "serve/endpoints.h"
#include "serve/inspect.h"
#include "serve/page.h"
#include "serve/respond.h"
#include "serve/workers.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
using ExchangePtr = std::shared_ptr<Exchange>;
constexpr int kWorkers = 2;
constexpr auto kFlushTime = std::chrono::seconds(5);   // for answers that are whole, when the server ends
constexpr auto kStuckTime = std::chrono::seconds(60);  // a step that takes longer is taken for a dead engine

}  // namespace

struct Server::State {
  // An answer under way.
  struct Job {
    HostedModel* hosted = nullptr;
    ExchangePtr exchange;
    std::shared_ptr<Answer> answer;
    EngineThread::Ticket ticket = 0;
    bool over = false;
    RequestTimes times;
  };
  using Route = void (*)(State&, const ExchangePtr&);

  ServerOptions options;
  HttpServer http;
  std::list<std::shared_ptr<Job>> jobs;
  std::optional<std::chrono::steady_clock::time_point>
      flushing_since;  // while the server drains and nothing is computed
  std::chrono::steady_clock::time_point stats_time = std::chrono::steady_clock::now();
  std::atomic<int> stops = 0;
  ServedModels models;
  std::atomic<size_t> working_bytes = 0;  // of bodies that wait for a worker or are read by one
  Workers workers{kWorkers};              // batches that go on at the start need them
  BatchEndpoints batches;

  State(const ServerOptions& o, std::vector<ModelToServe> served)
      : options(o),
        http(o.host, o.port, o.http),
        models(std::move(served), o.max_sequences + o.max_queue, [this] { http.post([this] { loaded(); }); }),
        batches(o.data_dir, batch_host()) {
    http.handle([this](const ExchangePtr& exchange) { handle(exchange); },
                [this](Exchange& e) { admit(e, options, http.body_bytes() + working_bytes); });
    http.on_tick([this] { tick(); });
  }

  ~State() { workers.stop(); }  // before what their tasks use is gone
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  bool draining() const { return stops > 0; }
  BatchHost batch_host();
  void loaded();
  void handle(const ExchangePtr& exchange);
  bool health(Exchange& exchange) const;
  void list_models(Exchange& exchange);
  using MakeAnswer = std::unique_ptr<Answer> (*)(const ServedModel&, const OrderedJsonNode&);
  using MakeJson = Json (*)(const ServedModel&, const OrderedJsonNode&);
  void with_text(const ExchangePtr& exchange, std::function<void(const std::string&)> f);
  void with_body(const ExchangePtr& exchange, std::function<void(const ModelChoice&, const OrderedJsonNode&)> f);
  void generate(const ExchangePtr& exchange, MakeAnswer make);
  void compute(const ExchangePtr& exchange, MakeJson make);
  void inspect(const ExchangePtr& exchange);
  void show_engine(const ExchangePtr& exchange);
  void submit(HostedModel& hosted, const ExchangePtr& exchange, std::shared_ptr<Answer> answer);
  void take(Job& job, AnswerEvents events);
  void write(Job& job, const AnswerEvents& events);
  void fail(Job& job, const ApiError& error);
  void close(Job& job);
  void tick();
  void print_stats();
};

bool Server::State::health(Exchange& exchange) const {
  const std::string& path = exchange.request.path;
  const EngineThread::State state = models.state();
  if (path == "/health/live") {
    const bool moves = models.silence() < kStuckTime;
    respond_json(exchange, {{"status", moves ? "alive" : "stuck"}, {"step_ms", models.silence().count()}},
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

void Server::State::list_models(Exchange& exchange) {
  const std::string &path = exchange.request.path, prefix = "/v1/models/";
  if (path != "/v1/models")
    return respond_json(exchange, describe_model(*models.named(path.substr(prefix.size())).model));
  Json data = Json::array();
  for (const ModelChoice& c : models.choices()) data.push_back(describe_model(*c.model));
  respond_json(exchange, {{"object", "list"}, {"data", data}});
}

void Server::State::handle(const ExchangePtr& exchange) try {
  const std::string &path = exchange->request.path, &method = exchange->request.method;
  const bool get = method == "GET" || method == "HEAD";
  if (exchange->request.too_long)
    throw ApiError(413, fmt::format("the body has more than {} bytes", options.http.body));
  if (get && health(*exchange)) return;
  if (get && respond_page(*exchange)) return;
  if (get && path == "/version") return respond_json(*exchange, {{"version", LATHE_VERSION}});
  if (get && path == "/metrics")
    return exchange->respond(200, models.metrics(options.metric_names),
                             {{"Content-Type", "text/plain; version=0.0.4"}});

  if (batches.handle(exchange)) return;

  static const std::map<std::string, std::pair<const char*, Route>> routes = {
      {"/v1/completions", {"POST", [](State& s, const ExchangePtr& e) { s.generate(e, make_completion); }}},
      {"/v1/chat/completions", {"POST", [](State& s, const ExchangePtr& e) { s.generate(e, make_chat_completion); }}},
      {"/v1/responses", {"POST", [](State& s, const ExchangePtr& e) { s.generate(e, make_response); }}},
      {"/v1/responses/input_tokens",
       {"POST", [](State& s, const ExchangePtr& e) { s.compute(e, count_response_tokens); }}},
      {"/v1/messages", {"POST", [](State& s, const ExchangePtr& e) { s.generate(e, make_message); }}},
      {"/v1/messages/count_tokens",
       {"POST", [](State& s, const ExchangePtr& e) { s.compute(e, count_message_tokens); }}},
      {"/v1/embeddings", {"POST", [](State& s, const ExchangePtr& e) { s.generate(e, make_embedding); }}},
      {"/v1/similarity", {"POST", [](State& s, const ExchangePtr& e) { s.generate(e, make_similarity); }}},
      {"/tokenize", {"POST", [](State& s, const ExchangePtr& e) { s.compute(e, tokenize); }}},
      {"/render", {"POST", [](State& s, const ExchangePtr& e) { s.compute(e, render); }}},
      {"/detokenize", {"POST", [](State& s, const ExchangePtr& e) { s.compute(e, detokenize); }}},
      {"/v1/inspect", {"POST", [](State& s, const ExchangePtr& e) { s.inspect(e); }}},
      {"/v1/engine", {"GET", [](State& s, const ExchangePtr& e) { s.show_engine(e); }}},
      {"/tokenizer_info",
       {"GET", [](State& s, const ExchangePtr& e) { respond_json(*e, tokenizer_info(*s.models.first().model)); }}},
      {"/v1/models", {"GET", [](State& s, const ExchangePtr& e) { s.list_models(*e); }}},
  };
  const auto found = routes.find(path.starts_with("/v1/models/")   ? "/v1/models"
                                 : path.starts_with("/v1/engine/") ? "/v1/engine"
                                                                   : path);
  if (found == routes.end()) throw ApiError(404, fmt::format("no endpoint {}", quote(path)));
  const auto& [wanted, route] = found->second;
  if (method != wanted && !(get && wanted == std::string("GET")))
    throw ApiError(405, fmt::format("{} takes {}, found {}", path, wanted, method));
  const EngineThread::State state = models.state();
  if (state == EngineThread::State::loading) throw ApiError(503, "the model is still loading");
  if (state == EngineThread::State::failed) throw ApiError(503, "the model could not be loaded");
  if (draining()) throw ApiError(503, "the server is shutting down");
  route(*this, exchange);
} catch (const std::exception& e) {
  respond_error(*exchange, api_error(e));
}

// Requests of batches are sent while no sequence waits: at most so many that interactive ones have room beside them.
BatchHost Server::State::batch_host() {
  BatchHost host;
  host.handle = [this](const ExchangePtr& exchange) { handle(exchange); };
  host.with_text = [this](const ExchangePtr& exchange, auto f) { with_text(exchange, std::move(f)); };
  host.work = [this](std::function<void()> f) { workers.post(std::move(f)); };
  host.post = [this](std::function<void()> f) { http.post(std::move(f)); };
  host.may_begin = [this] {
    const auto& all = models.all();
    return models.state() == EngineThread::State::ready && !draining() &&
           std::all_of(all.begin(), all.end(), [](const auto& m) { return m->engine.load().waiting == 0; });
  };
  host.most_at_once = std::max<int64_t>(1, options.max_sequences / 4);
  return host;
}

// f(text of the body) on a worker. What it throws is the answer.
void Server::State::with_text(const ExchangePtr& exchange, std::function<void(const std::string&)> f) {
  std::string taken = exchange->take_body();
  working_bytes += taken.size();
  workers.post([this, exchange, f = std::move(f), text = std::move(taken)] {
    try {
      f(text);
    } catch (const std::exception& e) {
      http.post([exchange, error = api_error(e)] { respond_error(*exchange, error); });
    }
    working_bytes -= text.size();
  });
}

// f(choice, body), with the model that the body chooses and the body without that.
void Server::State::with_body(const ExchangePtr& exchange,
                              std::function<void(const ModelChoice&, const OrderedJsonNode&)> f) {
  with_text(exchange, [this, f = std::move(f)](const std::string& text) {
    Json body = parse_ordered_json(text, "body");
    const ModelChoice choice = models.choose(body);
    f(choice, {body, "body"});
  });
}

void Server::State::compute(const ExchangePtr& exchange, MakeJson make) {
  with_body(exchange, [this, exchange, make](const ModelChoice& choice, const OrderedJsonNode& body) {
    http.post([exchange, json = dump_json(make(*choice.model, body))] { exchange->respond(200, json); });
  });
}

void Server::State::generate(const ExchangePtr& exchange, MakeAnswer make) {
  with_body(exchange, [this, exchange, make](const ModelChoice& choice, const OrderedJsonNode& body) {
    std::shared_ptr<Answer> answer = make(*choice.model, body);
    for (Request& r : answer->requests) {
      r.adapter = choice.model->adapter();
      if (options.cache_by_key) r.tenant = key_index(exchange->request, options.api_keys);
    }
    http.post([this, exchange, answer, hosted = choice.hosted] { submit(*hosted, exchange, answer); });
  });
}

// The model is the engine's thread's, so its work is done there; what it found becomes JSON on a worker.
void Server::State::inspect(const ExchangePtr& exchange) {
  with_body(exchange, [this, exchange](const ModelChoice& choice, const OrderedJsonNode& body) {
    if (choice.model->base)
      throw ApiError(400,
                     fmt::format("{} is an adapter, {} can be looked into", choice.model->id, choice.model->base->id),
                     "model");
    const std::shared_ptr<Inspection> inspection = make_inspection(*choice.model, body);
    const auto left = std::make_shared<std::atomic<bool>>(false);
    http.post([exchange, left] {
      *left = exchange->over();
      exchange->on_leave([left] { *left = true; });
    });
    choice.hosted->engine.between_steps([this, exchange, inspection, left](const Engine& looked_at) {
      try {
        if (*left) return false;
        if (inspection->work(looked_at)) return true;
        http.post([this, exchange, inspection] {
          workers.post([this, exchange, inspection] {
            try {
              http.post([exchange, json = dump_json(inspection->json())] { exchange->respond(200, json); });
            } catch (const std::exception& e) {
              http.post([exchange, error = api_error(e)] { respond_error(*exchange, error); });
            }
          });
        });
      } catch (const std::exception& e) {
        http.post([exchange, error = api_error(e)] { respond_error(*exchange, error); });
      }
      return false;
    });
  });
}

// Of the model that the path names, or the first.
void Server::State::show_engine(const ExchangePtr& exchange) {
  const std::string &path = exchange->request.path, prefix = "/v1/engine/";
  EngineThread& engine =
      (path.starts_with(prefix) ? models.named(path.substr(prefix.size())) : models.first()).hosted->engine;
  engine.between_steps([this, exchange, &engine](const Engine& looked_at) {
    http.post([exchange, json = describe_engine(engine, looked_at)] { respond_json(*exchange, json); });
    return false;
  });
}

void Server::State::submit(HostedModel& hosted, const ExchangePtr& exchange, std::shared_ptr<Answer> answer) try {
  if (exchange->over()) return;  // the client has left meanwhile
  hosted.metrics.arrived();
  const auto job = std::make_shared<Job>();
  job->hosted = &hosted;
  job->exchange = exchange;
  job->answer = std::move(answer);
  job->ticket = hosted.engine.submit(std::move(job->answer->requests), [this, job](AnswerEvents events) {
    http.post([this, job, events = std::move(events)]() mutable { take(*job, std::move(events)); });
  });
  jobs.push_back(job);
  exchange->on_leave([this, weak = std::weak_ptr<Job>(job)] {
    const auto left = weak.lock();
    if (!left || left->over) return;
    left->hosted->engine.cancel(left->ticket);
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
    job.hosted->engine.cancel(job.ticket);
    fail(job, {500, e.what()});
  }
}

void Server::State::write(Job& job, const AnswerEvents& events) {
  if (!events.failure.empty()) return fail(job, {500, events.failure});
  for (const AnswerEvents::Event& e : events.events) {
    job.hosted->metrics.take(job.times, e.event);
    if (e.event.completion && e.event.completion->finish_reason == FinishReason::error) {
      job.hosted->engine.cancel(job.ticket);
      return fail(job, {500, e.event.completion->error});
    }
    job.answer->take(*job.exchange, e.request, e.event);
  }
  if (!events.finished) return;
  job.answer->finish(*job.exchange);
  job.hosted->metrics.finished(job.times);
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
  if (models.state() == EngineThread::State::failed) return http.stop();
  if (models.state() == EngineThread::State::loading) return;
  fmt::print(stderr, "lathe: ready: http://{}:{}\n", options.host, http.port());
}

void Server::State::tick() {
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::shared_ptr<Job>> late;
  for (const auto& job : jobs)
    if (options.request_timeout > 0 && now - job->times.begin > std::chrono::duration<double>(options.request_timeout))
      late.push_back(job);
  for (const auto& job : late) {
    job->hosted->engine.cancel(job->ticket);
    fail(*job, {504, fmt::format("the answer took longer than {} s (--request-timeout)", options.request_timeout)});
  }
  batches.tick();
  print_stats();
  if (stops > 1) return http.stop();
  if (!draining()) return;
  if (!flushing_since) fmt::print(stderr, "lathe: shutting down: {} answers are finished first\n", jobs.size());
  if (!flushing_since || !jobs.empty()) flushing_since = now;
  if (models.state() == EngineThread::State::loading) return http.stop();
  if (jobs.empty() && (http.open_exchanges() == 0 || now - *flushing_since > kFlushTime)) http.stop();
}

// A line a model of what there was to do since the last one, where anything was.
void Server::State::print_stats() {
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double> since = now - stats_time;
  if (options.stats_seconds <= 0 || since.count() < options.stats_seconds) return;
  stats_time = now;
  for (const auto& hosted : models.all()) {
    const uint64_t generated = hosted->engine.counters().generated_tokens - hosted->reported_generated;
    const uint64_t prompts = hosted->engine.counters().prompt_tokens - hosted->reported_prompts;
    hosted->reported_generated += generated;
    hosted->reported_prompts += prompts;
    if (generated + prompts == 0) continue;
    const Engine::Load load = hosted->engine.load();
    fmt::print(stderr,
               "lathe: {}: {} running, {} waiting; {:.1f} tokens/s generated, {:.1f} of prompts; pages: {} used, {} "
               "cached of {}\n",
               hosted->model.id, load.running, load.waiting, static_cast<double>(generated) / since.count(),
               static_cast<double>(prompts) / since.count(), load.used_pages, load.cached_pages, load.pages);
  }
}

Server::Server(const ServerOptions& options, std::vector<ModelToServe> models)
    : state_(std::make_unique<State>(options, std::move(models))) {}
Server::~Server() = default;
int Server::port() const { return state_->http.port(); }
bool Server::loading() const { return state_->models.state() == EngineThread::State::loading; }
void Server::stop() { ++state_->stops; }

void Server::run() {
  state_->http.run();
  if (state_->models.state() == EngineThread::State::failed) throw Error(state_->models.failure());
}

}  // namespace lathe
