// The thread team: a fixed set of threads that wait for work together. The caller is member 0.
//
// Members spin briefly before they sleep, because a decoded token starts some hundred parallel regions and waking a
// sleeping thread costs ten microseconds. What is computed never depends on the number of members: kernels split
// output rows, never sums.
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

namespace lathe {

class ThreadTeam {
 public:
  using Function = void (*)(void* context, int member, int members);

  explicit ThreadTeam(int members);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const;
  // Calls function(context, member, members) once on every member and returns when all are done. The function must
  // not throw. A call from inside a running region, or from a second thread meanwhile, runs all members' shares on
  // the calling thread, one after another.
  void run(Function function, void* context);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The team that kernels use; made at first use with `default_threads()` members.
ThreadTeam& thread_team();
// Replaces the team; not while a kernel runs. members >= 1.
void set_threads(int members);
// Physical cores that this process may use (affinity and cgroup quota honoured), or LATHE_THREADS.
int default_threads();

// f(member, members) on every member of the team.
template <class F>
void parallel(F&& f) {
  using Callable = std::remove_reference_t<F>;
  thread_team().run([](void* c, int member, int members) { (*static_cast<Callable*>(c))(member, members); },
                    const_cast<void*>(static_cast<const void*>(&f)));
}

// f(begin, end) over [0, n) in contiguous shares whose borders are multiples of `grain`; on the caller alone when
// there is only one share. f must give the same bits however [0, n) is cut.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  const int64_t units = (n + grain - 1) / grain;
  if (units < 2 || thread_team().size() < 2) return f(int64_t{0}, n);
  parallel([&](int member, int members) {
    const int64_t begin = units * member / members * grain, end = units * (member + 1) / members * grain;
    if (begin < n && begin < end) f(begin, end < n ? end : n);
  });
}

}  // namespace lathe
