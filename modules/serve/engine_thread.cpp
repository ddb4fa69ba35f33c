#include "serve/engine_thread.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "generate/generate.h"
#include "tensor/storage.h"

namespace lathe {
namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr int64_t kMostPieces = 32;

int64_t count_sequences(const std::vector<Request>& requests) {
  int64_t count = 0;
  for (const Request& r : requests) count += r.num_sequences;
  return count;
}

}  // namespace

struct EngineThread::Submission {
  Listener listener;
  std::vector<RequestId> ids;
  int64_t unfinished = 0;  // sequences
  AnswerEvents events;
};

EngineThread::EngineThread(Load load, int64_t most_sequences, std::function<void()> on_state)
    : most_sequences_(most_sequences), on_state_(std::move(on_state)), thread_([this, load] { run(load); }) {}

EngineThread::~EngineThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void EngineThread::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    mailbox_.push_back(std::move(task));
  }
  wake_.notify_one();
}

EngineThread::Ticket EngineThread::submit(std::vector<Request> requests, Listener listener) {
  for (const Request& r : requests) check_request(r);
  const int64_t count = count_sequences(requests);
  // A submission that is alone is taken, however many sequences it has.
  if (const int64_t before = sequences_.fetch_add(count); before > 0 && before + count > most_sequences_) {
    sequences_ -= count;
    ++counters_.refused;
    throw BusyError(fmt::format("{} sequences run or wait, at most {} may", before, most_sequences_));
  }
  const Ticket ticket = next_ticket_++;
  ++counters_.requests;
  post([this, ticket, requests = std::move(requests), listener = std::move(listener)]() mutable {
    begin(ticket, requests, std::move(listener));
  });
  return ticket;
}

void EngineThread::cancel(Ticket ticket) {
  post([this, ticket] {
    const auto found = submissions_.find(ticket);
    if (found == submissions_.end()) return;
    ++counters_.cancelled;
    found->second->listener = {};
    const std::vector<RequestId> ids = found->second->ids;
    for (const RequestId id : ids) engine_->cancel(id);
  });
}

void EngineThread::between_steps(Piece f) {
  if (++waiting_pieces_ > kMostPieces) {
    --waiting_pieces_;
    throw BusyError(fmt::format("{} others look into the engine already", kMostPieces));
  }
  post([this, f = std::move(f)]() mutable { pieces_.push_back(std::move(f)); });
}

std::chrono::milliseconds EngineThread::silence() const {
  const SteadyClock::time_point since = busy_since_;
  if (since == SteadyClock::time_point{}) return {};
  return std::chrono::duration_cast<std::chrono::milliseconds>(SteadyClock::now() - since);
}

Engine::Load EngineThread::load() const {
  const std::lock_guard lock(mutex_);
  return load_;
}

// ---- on the engine's thread ----

void EngineThread::begin(Ticket ticket, const std::vector<Request>& requests, Listener listener) {
  Submission& s = *submissions_.emplace(ticket, std::make_unique<Submission>()).first->second;
  s.listener = std::move(listener);
  s.unfinished = count_sequences(requests);
  try {
    for (size_t i = 0; i < requests.size(); ++i)
      s.ids.push_back(
          engine_->submit(requests[i], [this, ticket, i](const GenerationEvent& event) { take(ticket, i, event); }));
  } catch (const std::exception& e) {  // it was checked, so this is no fault of the request
    s.events.failure = e.what();
    const std::vector<RequestId> ids = s.ids;
    for (const RequestId id : ids) engine_->cancel(id);
    sequences_ -= s.unfinished;
    s.unfinished = 0;
  }
}

void EngineThread::take(Ticket ticket, size_t request, const GenerationEvent& event) {
  const auto found = submissions_.find(ticket);
  if (found == submissions_.end()) return;
  Submission& s = *found->second;
  if (event.token) ++counters_.generated_tokens;
  if (event.completion) {
    --s.unfinished;
    --sequences_;
    if (event.sequence == 0) {
      counters_.prompt_tokens += static_cast<uint64_t>(event.completion->prompt_tokens);
      counters_.cached_tokens += static_cast<uint64_t>(event.completion->cached_tokens);
    }
  }
  if (s.listener) s.events.events.push_back({request, event});
}

// A listener may submit or cancel: that comes by the mailbox.
void EngineThread::hand_out() {
  for (auto at = submissions_.begin(); at != submissions_.end();) {
    Submission& s = *at->second;
    s.events.finished = s.unfinished == 0;
    const bool finished = s.events.finished;
    if (s.listener && (finished || !s.events.events.empty())) s.listener(std::exchange(s.events, {}));
    at = finished ? submissions_.erase(at) : std::next(at);
  }
}

// What a step throws is nobody's request: all are told, and the engine goes on without them.
void EngineThread::fail_all(const std::string& message) {
  counters_.failed += submissions_.size();
  for (auto& [ticket, s] : submissions_) {
    s->events.failure = message;
    for (const RequestId id : std::vector(s->ids)) engine_->cancel(id);
    sequences_ -= s->unfinished;
    s->unfinished = 0;
  }
}

void EngineThread::step() {
  const auto begin = SteadyClock::now();
  const StepReport report = engine_->step();
  ++counters_.steps;
  batch_sizes_.add(static_cast<double>(report.sequences));
  batch_tokens_.add(static_cast<double>(report.prompt_tokens + report.decoded_tokens));
  counters_.preempted += static_cast<uint64_t>(report.preempted);
  counters_.step_microseconds +=
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(SteadyClock::now() - begin).count());
}

// Who has more to do goes to the end of the line.
void EngineThread::run_piece() {
  if (pieces_.empty()) return;
  if ((pieces_.front())(*engine_))
    pieces_.splice(pieces_.end(), pieces_, pieces_.begin());
  else {
    pieces_.pop_front();
    --waiting_pieces_;
  }
}

// As many sequences as may run and as many tokens as a step may have, then a step of answers.
void EngineThread::warm_up() {
  const SchedulerOptions& limits = engine_->limits();
  Request r = model_->request({});
  r.prompt.assign(static_cast<size_t>(std::max<int64_t>(
                      1, std::min(limits.max_batch_tokens / limits.max_sequences, engine_->longest_sequence() - 2))),
                  0);
  r.max_new_tokens = 2;
  r.ignore_eos = true;
  r.prefix_cache = false;
  generate(*engine_, std::vector<Request>(static_cast<size_t>(limits.max_sequences), r));
  // From here on blocks of sizes that come no more are given back before others are asked for. Logits of scored prompts
  // come on top: whoever sizes the cache sets memory aside for them.
  StoragePool::set_budget(StoragePool::held_bytes() + sizeof(float) * kScoredLogits);
}

// What f throws fails all that is under way, and nothing else: what waits in the mailbox is begun after it.
void EngineThread::attempt(const std::function<void()>& f) try { f(); } catch (const std::exception& e) {
  fail_all(e.what());
  if (model_->loaded().model->ranks->alone()) return;
  failure_ = e.what();  // the others wait in a pass that this one has left
  state_ = State::failed;
}

void EngineThread::run(const Load& load) {
  try {
    model_ = load();
    engine_ = &model_->engine();
    warm_up();
    const Engine::Load idle = engine_->load();
    const std::lock_guard lock(mutex_);
    load_ = idle;
    state_ = State::ready;
  } catch (const Error& e) {
    failure_ = e.hint().empty() ? e.what() : fmt::format("{} ({})", e.what(), e.hint());
    state_ = State::failed;
  } catch (const std::exception& e) {
    failure_ = e.what();
    state_ = State::failed;
  }
  on_state_();
  while (state_ == State::ready) {
    std::vector<Task> tasks;
    {
      std::unique_lock lock(mutex_);
      load_ = engine_->load();
      if (engine_->idle() && pieces_.empty()) busy_since_ = SteadyClock::time_point{};
      wake_.wait(lock, [&] { return stopping_ || !mailbox_.empty() || !pieces_.empty() || !engine_->idle(); });
      if (stopping_) return;
      tasks.swap(mailbox_);
    }
    busy_since_ = SteadyClock::now();
    for (const Task& task : tasks) attempt(task);
    attempt([this] {
      run_piece();
      if (!engine_->idle()) step();
    });
    hand_out();
    if (state_ == State::failed) on_state_();
  }
}

}  // namespace lathe
