// The engine on a thread of its own: the only one that touches it.
//
// Other threads leave submissions and cancellations in a mailbox, which is emptied between steps; the events of a step
// go to each submission's listener in one call, on the engine's thread. The model is loaded there as well, so that a
// server listens meanwhile.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "generate/chat_model.h"
#include "serve/histogram.h"

namespace lathe {

// More sequences wait than may: try again later.
class BusyError : public Error {
 public:
  using Error::Error;
};

// Of one submission, since the last call.
struct AnswerEvents {
  struct Event {
    size_t request;  // its place in the submission
    GenerationEvent event;
  };
  std::vector<Event> events;
  bool finished = false;  // all of its sequences have their completion
  std::string failure;    // the engine's own, not the request's; then it is finished
};

class EngineThread {
 public:
  using Load = std::function<std::unique_ptr<ChatModel>()>;
  using Listener = std::function<void(AnswerEvents)>;
  using Ticket = uint64_t;
  enum class State : uint8_t { loading, ready, failed };

  // Counts since the start, of what was asked and done.
  struct Counters {
    std::atomic<uint64_t> requests = 0, refused = 0, cancelled = 0, failed = 0;
    std::atomic<uint64_t> prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0, preempted = 0, steps = 0;
    std::atomic<uint64_t> step_microseconds = 0;
  };

  // Once loaded, the largest step is run, so that none later needs more memory. `most_sequences`: that may run or wait
  // together. `on_state` is called on the engine's thread, when the model is
  // loaded or could not be, and where processes that share it out have lost each other.
  EngineThread(Load load, int64_t most_sequences, std::function<void()> on_state);
  ~EngineThread();  // cancels what is left
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  State state() const { return state_; }
  const std::string& failure() const { return failure_; }  // once it has failed
  // Once ready. Its const members may be called from any thread.
  const ChatModel& model() const { return *model_; }
  // Throws what Engine::check_request throws. From any thread, once ready.
  void check_request(const Request& request) const { engine_->check_request(request); }

  int64_t longest_sequence() const { return engine_->longest_sequence(); }

  // From any thread, once ready. Throws RequestError, and BusyError where too many sequences are there already.
  Ticket submit(std::vector<Request> requests, Listener listener);
  // Ends what is left of a submission, within a step; its listener is not called again, but for a call under way.
  void cancel(Ticket ticket);
  // Calls f on the engine's thread between two steps, once between any two, until it returns false: long work that
  // comes in pieces leaves the answers beside it even. f must not throw. Throws BusyError where too many such wait.
  // From any thread, once ready.
  using Piece = std::function<bool(const Engine&)>;
  void between_steps(Piece f);

  // Time since the thread was last seen between two steps; 0 while there is nothing to do.
  std::chrono::milliseconds silence() const;
  int64_t sequences() const { return sequences_; }  // that run or wait
  Engine::Load load() const;                        // as of the last step
  const Counters& counters() const { return counters_; }
  const Histogram& batch_sizes() const { return batch_sizes_; }    // sequences of a step
  const Histogram& batch_tokens() const { return batch_tokens_; }  // tokens of a step

 private:
  struct Submission;
  using Task = std::function<void()>;

  void run(const Load& load);
  void warm_up();
  void begin(Ticket ticket, const std::vector<Request>& requests, Listener listener);
  void take(Ticket ticket, size_t request, const GenerationEvent& event);
  void step();
  void hand_out();
  void fail_all(const std::string& message);
  void post(Task task);
  void run_piece();
  void attempt(const std::function<void()>& f);

  const int64_t most_sequences_;
  std::function<void()> on_state_;
  std::unique_ptr<ChatModel> model_;
  Engine* engine_ = nullptr;
  std::string failure_;
  std::atomic<State> state_ = State::loading;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  std::vector<Task> mailbox_;
  bool stopping_ = false;
  Engine::Load load_;

  std::map<Ticket, std::unique_ptr<Submission>> submissions_;  // the thread's own
  std::list<Piece> pieces_;                                    // this, too
  std::atomic<int64_t> sequences_ = 0, waiting_pieces_ = 0;
  std::atomic<Ticket> next_ticket_ = 1;
  std::atomic<std::chrono::steady_clock::time_point> busy_since_ = std::chrono::steady_clock::time_point{};
  Counters counters_;
  Histogram batch_sizes_{kSequencesBounds}, batch_tokens_{kTokensBounds};
  std::thread thread_;
};

}  // namespace lathe
