// The thread team: a fixed set of threads that wait for work together. The caller is one of them.
//
// A region is a number of units, which members take one by one, whoever comes. So a member that the operating system
// has put aside holds nobody up: the others do its part, and the region ends without it. On a busy machine that is
// worth a factor of ten. Members spin briefly before they sleep, because a decoded token starts some hundred regions
// and waking a sleeping thread costs ten microseconds and more. What is computed never depends on who computes it.
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

namespace lathe {

// Waking the team costs more than it gains for fewer elements than this that are read and written once, or for fewer
// products.
inline constexpr int64_t kGrainElements = 16 << 10;
inline constexpr int64_t kSerialProducts = 1 << 16;

class ThreadTeam {
 public:
  using Function = void (*)(void* context, int64_t unit);

  explicit ThreadTeam(int members);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const;
  // Calls function(context, unit) once for every unit of [0, units), units < 2^32, and returns when all are done. The
  // function must not throw. A call from inside a running region, or from a second thread meanwhile, runs all units on
  // the calling thread, one after another.
  void run(Function function, void* context, int64_t units);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The team that kernels use; made at first use with `default_threads()` members.
ThreadTeam& thread_team();
// Replaces the team; not while a kernel runs. members >= 1. A forked child, which has none of the threads, gets a team
// of the same size at its first use; fork while no kernel runs.
void set_threads(int members);
// Physical cores that this process may use (affinity and cgroup quota honoured), or LATHE_THREADS.
int default_threads();

// f(unit) for every unit of [0, units), handed out one by one in ascending order.
template <class F>
void parallel(int64_t units, F&& f) {
  using Callable = std::remove_reference_t<F>;
  thread_team().run([](void* c, int64_t unit) { (*static_cast<Callable*>(c))(unit); },
                    const_cast<void*>(static_cast<const void*>(&f)), units);
}

// f(begin, end) over [0, n) in a contiguous share for each member, with borders that are multiples of `grain`; on the
// caller alone when there is only one share. f must give the same bits however [0, n) is cut.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  const int64_t units = (n + grain - 1) / grain;
  const int64_t members = thread_team().size(), shares = units < members ? units : members;
  if (shares < 2) return f(int64_t{0}, n);
  parallel(shares, [&](int64_t share) {
    const int64_t begin = units * share / shares * grain, end = units * (share + 1) / shares * grain;
    f(begin, end < n ? end : n);
  });
}

}  // namespace lathe
