// The thread team.
//
// A ticket holds the number of the region and its next unit; members take units by raising it. A member that comes too
// late finds another region's number, or no unit left, and has touched nothing of the caller's. No lock, and no system
// call while the members are awake.
//
// Microseconds for a fork and join with an empty body, 2 members on 2 virtual cores (Sapphire Rapids class Xeon):
//   members spinning        0.9 - 1.5
//   members asleep          70 (the virtual core must be woken as well; 9 on a Zen 4 host)
#include "tensor/threads.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tensor/cores.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

constexpr int kMaxThreads = 1024;

void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits a little: pauses first, then offers the core, because on a busy machine the awaited thread may need this one.
class Spinner {
 public:
  // False once a millisecond is over: some fifteen times the cost of a wake-up.
  bool spin() {
    for (int i = 0; i < 32; ++i) pause_core();
    if (++rounds_ % 16 != 0) return true;
    std::this_thread::yield();
    return std::chrono::steady_clock::now() - start_ < std::chrono::milliseconds(1);
  }

 private:
  int rounds_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

struct ThreadTeam::State {
  alignas(64) std::atomic<uint32_t> region{0};    // number of the current or last one; members sleep on it
  alignas(64) std::atomic<uint64_t> ticket{0};    // the region's number, then its next unit in the low 32 bits
  alignas(64) std::atomic<uint32_t> finished{0};  // units of the region
  alignas(64) std::atomic<bool> busy{false};      // a region is running
  // Of the region. A late member may read them while the next one is prepared, and then fails to take a unit.
  std::atomic<Function> function{nullptr};
  std::atomic<void*> context{nullptr};
  std::atomic<uint32_t> units{0};
  std::atomic<bool> stop{false};
  int members = 1;
  std::vector<std::thread> threads;

  static constexpr uint32_t kClosed = UINT32_MAX;
  static uint64_t ticket_of(uint32_t number, uint32_t unit) { return static_cast<uint64_t>(number) << 32 | unit; }

  // Opens a region; the caller is the only one who does.
  uint32_t publish(Function f, void* c, uint32_t count) {
    const uint32_t number = region.load(std::memory_order_relaxed) + 1;
    // Closed first: who sees anything of the new region below can no longer take a unit with the old ticket.
    ticket.store(ticket_of(number, kClosed), std::memory_order_relaxed);
    function.store(f, std::memory_order_release);
    context.store(c, std::memory_order_release);
    units.store(count, std::memory_order_release);
    finished.store(0, std::memory_order_relaxed);
    ticket.store(ticket_of(number, 0), std::memory_order_release);
    region.store(number, std::memory_order_seq_cst);
    region.notify_all();
    return number;
  }

  // Takes units of region `number` as long as there are any.
  void work(uint32_t number) {
    uint64_t now = ticket.load(std::memory_order_acquire);
    while (now >> 32 == number && static_cast<uint32_t>(now) < units.load(std::memory_order_acquire)) {
      const Function f = function.load(std::memory_order_acquire);
      void* const c = context.load(std::memory_order_acquire);
      if (!ticket.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      f(c, static_cast<uint32_t>(now));
      finished.fetch_add(1, std::memory_order_release);
      now = ticket.load(std::memory_order_acquire);
    }
  }

  void serve() {
    uint32_t seen = 0;
    while (true) {
      for (Spinner spinner; region.load(std::memory_order_acquire) == seen;)
        if (!spinner.spin()) region.wait(seen, std::memory_order_acquire);
      seen = region.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      work(seen);
    }
  }
};

ThreadTeam::ThreadTeam(int members) : state_(std::make_unique<State>()) {
  check(members >= 1 && members <= kMaxThreads, "threads", "{} wanted, expected 1 to {}", members, kMaxThreads);
  state_->members = members;
  state_->threads.reserve(static_cast<size_t>(members - 1));
  for (int i = 1; i < members; ++i) state_->threads.emplace_back([s = state_.get()] { s->serve(); });
}

ThreadTeam::~ThreadTeam() {
  state_->stop = true;
  state_->publish(nullptr, nullptr, 0);
  for (std::thread& t : state_->threads) t.join();
}

int ThreadTeam::size() const { return state_->members; }

void ThreadTeam::run(Function function, void* context, int64_t units) {
  State& s = *state_;
  check(units >= 0 && units < State::kClosed, "threads", "{} units, expected less than 2^32 - 1", units);
  const bool alone = s.members == 1 || units < 2 || s.busy.exchange(true, std::memory_order_acquire);
  if (alone) {
    for (int64_t unit = 0; unit < units; ++unit) function(context, unit);
    return;
  }
  s.work(s.publish(function, context, static_cast<uint32_t>(units)));
  for (Spinner spinner; s.finished.load(std::memory_order_acquire) != units;) spinner.spin();
  s.busy.store(false, std::memory_order_release);
}

namespace {

std::mutex team_mutex;
std::unique_ptr<ThreadTeam> team_owner;
std::atomic<ThreadTeam*> team{nullptr};
int members_of_next_team = 0;  // 0: default_threads()

// In a forked child the members do not exist: their team is let go of, not ended.
void forget_team() {
  if (!team_owner) return;
  members_of_next_team = team_owner->size();
  team.store(nullptr, std::memory_order_release);
  static_cast<void>(team_owner.release());
}

void forget_team_in_children() {
  [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, forget_team);
}

}  // namespace

int default_threads() {
  const char* wanted = std::getenv("LATHE_THREADS");
  if (wanted == nullptr || *wanted == '\0') return std::min(usable_cores(), kMaxThreads);
  int threads = 0;
  const char* end = wanted + std::strlen(wanted);
  const auto [stopped, error] = std::from_chars(wanted, end, threads);
  check(error == std::errc{} && stopped == end && threads >= 1 && threads <= kMaxThreads, "threads",
        "LATHE_THREADS is '{}', expected a number from 1 to {}", wanted, kMaxThreads);
  return threads;
}

ThreadTeam& thread_team() {
  if (ThreadTeam* made = team.load(std::memory_order_acquire)) return *made;
  const std::lock_guard lock(team_mutex);
  forget_team_in_children();
  if (!team_owner)
    team_owner = std::make_unique<ThreadTeam>(members_of_next_team > 0 ? members_of_next_team : default_threads());
  team.store(team_owner.get(), std::memory_order_release);
  return *team_owner;
}

void set_threads(int members) {
  const std::lock_guard lock(team_mutex);
  forget_team_in_children();
  if (team_owner && team_owner->size() == members) return;
  auto replacement = std::make_unique<ThreadTeam>(members);
  team.store(replacement.get(), std::memory_order_release);
  team_owner = std::move(replacement);
}

}  // namespace lathe
