#include "python/src/computing.h"

#include <algorithm>
#include <chrono>

#include "tensor/errors.h"

namespace lathe::python {
namespace {

struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;          // computations, nested ones counted
  int closings = 0;        // nested ones of one thread
  std::thread::id closer;  // whose they are
  bool closed_to(std::thread::id thread) const { return closings > 0 && closer != thread; }
};

// Never destroyed: threads may wait at it when the process ends. A forked child makes another.
Gate* gate = new Gate;
thread_local int depth = 0;  // computations of this thread

template <class Ready>
void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, const Poll& poll, const Ready& ready) {
  while (!changed.wait_for(lock, std::chrono::milliseconds(50), ready)) {
    if (!poll) continue;
    lock.unlock();
    poll();
    lock.lock();
  }
}

}  // namespace

Computing::Computing(const Poll& poll) {
  Gate& g = *gate;
  std::unique_lock lock(g.mutex);
  const auto me = std::this_thread::get_id();
  if (depth == 0) wait(lock, g.changed, poll, [&] { return !g.closed_to(me); });
  ++depth;
  ++g.inside;
}

Computing::~Computing() {
  Gate& g = *gate;
  const std::lock_guard lock(g.mutex);
  --depth;
  --g.inside;
  g.changed.notify_all();
}

Stillness::Stillness(const Poll& poll) {
  Gate& g = *gate;
  std::unique_lock lock(g.mutex);
  const auto me = std::this_thread::get_id();
  wait(lock, g.changed, poll, [&] { return !g.closed_to(me); });
  g.closer = me;
  ++g.closings;
  try {
    wait(lock, g.changed, poll, [&] { return g.inside == depth; });
  } catch (...) {
    lock.lock();
    --g.closings;
    g.changed.notify_all();
    throw;
  }
}

Stillness::~Stillness() {
  Gate& g = *gate;
  const std::lock_guard lock(g.mutex);
  --g.closings;
  g.changed.notify_all();
}

void forget_other_threads() {
  gate = new Gate;
  gate->inside = depth;
}

void Turns::take(const Poll& poll) {
  std::unique_lock lock(mutex_);
  const auto me = std::this_thread::get_id();
  if (owner_ == me || std::find(waiting_.begin(), waiting_.end(), me) != waiting_.end())
    throw Error("model: it is computing on this thread already", "a signal handler cannot use the model it interrupts");
  waiting_.push_back(me);
  try {
    wait(lock, changed_, poll, [&] { return owner_ == std::thread::id() && waiting_.front() == me; });
  } catch (...) {
    lock.lock();
    std::erase(waiting_, me);
    changed_.notify_all();
    throw;
  }
  waiting_.pop_front();
  owner_ = me;
}

void Turns::give_back() {
  const std::lock_guard lock(mutex_);
  owner_ = {};
  changed_.notify_all();
}

}  // namespace lathe::python
