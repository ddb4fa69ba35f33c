// Where the time of a run goes: calls, time, bytes and arithmetic by operation, and on request every single call.
//
// Each kernel's entry point opens a ProfileScope. Without an active profiler that is one relaxed load of a null
// pointer, and what would describe the call is not evaluated; otherwise it is two readings of the clock. Scopes nest,
// and time counts for the innermost alone, so that the rows add up to what passed less the time between kernels.
//
//   const ProfileScope profile([&] { return ProfiledCall{"rms_norm", 8 * rows * n, 4 * rows * n}; });
//
// A profiler looks and touches nothing: results are the same bits with and without it.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace lathe {

struct ProfiledCall {
  // What most of its arithmetic is done in, which decides its ceiling. A phase encloses other calls and has no time of
  // its own in a table: "prefill", "decode".
  enum class Kind : uint8_t { floats, integers, phase };

  std::string name;        // calls of one name share a row
  int64_t bytes = 0;       // of the operands, each counted once: what must come from memory or go there
  int64_t operations = 0;  // a multiplication and an addition are two, a transcendental function is one
  Kind kind = Kind::floats;
};

class Profiler {
 public:
  struct Row {
    std::string phase, name;  // the outermost phase that the calls were made in (empty: none), their name
    ProfiledCall::Kind kind = ProfiledCall::Kind::floats;
    int64_t calls = 0;
    double seconds = 0;  // without what other scopes inside took
    int64_t bytes = 0, operations = 0;
    bool is_phase() const { return kind == ProfiledCall::Kind::phase; }
  };
  // One call: times in nanoseconds since the profiler began.
  struct Event {
    size_t row;
    int64_t begin, duration;
    int64_t bytes, operations;
  };
  static constexpr size_t kMostEvents = size_t{1} << 20;  // of which a browser's viewer still makes something

  // In force from here on, for the calls of this thread. `keep_events`: every call is kept, up to kMostEvents. Throws
  // Error where another profiler is active.
  explicit Profiler(bool keep_events);
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  static Profiler* current() { return active_.load(std::memory_order_relaxed); }

  // Ends the recording; further calls leave no trace. Not within a scope.
  void stop();
  double seconds() const { return static_cast<double>(stopped_) * 1e-9; }  // from the beginning to stop()
  const std::vector<Row>& rows() const { return rows_; }                   // in the order of their first call
  const std::vector<Event>& events() const { return events_; }             // in the order of their ends
  int64_t events_left_out() const { return events_left_out_; }

 private:
  friend class ProfileScope;
  struct Open {
    size_t row;
    int64_t begin, inside;  // nanoseconds spent in scopes within
    int64_t bytes, operations;
  };

  bool begin(ProfiledCall call);
  void end();
  int64_t now() const;

  static std::atomic<Profiler*> active_;
  const std::thread::id thread_ = std::this_thread::get_id();
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  int64_t stopped_ = 0;
  bool keep_events_;
  std::vector<Open> open_;
  std::vector<Row> rows_;
  std::map<std::pair<std::string, std::string>, size_t> row_of_;  // by phase and name
  std::vector<Event> events_;
  int64_t events_left_out_ = 0;
};

// The call that lasts as long as this object.
class ProfileScope {
 public:
  // `describe()` gives a ProfiledCall; called only when a profiler is active.
  template <class Describe>
  explicit ProfileScope(const Describe& describe) : profiler_(Profiler::current()) {
    if (profiler_ != nullptr) [[unlikely]]
      if (!profiler_->begin(describe())) profiler_ = nullptr;
  }
  ~ProfileScope() {
    if (profiler_ != nullptr) [[unlikely]]
      profiler_->end();
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  Profiler* profiler_;
};

}  // namespace lathe
