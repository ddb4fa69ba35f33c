// What computes in this process, and who waits until nothing does: a change of the thread team, a fork, the end of the
// interpreter. Knows no Python.
//
// Every computation is Computing while it lasts; Stillness waits for those of other threads and keeps new ones out. A
// computation within another of the same thread (a signal handler's) is let in. Order: Computing, then a model's Turn;
// so whoever waits for a turn computes soon, and while there is Stillness no turn is taken.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace lathe::python {

// Called every now and then while something waits; what it throws ends the waiting.
using Poll = std::function<void()>;

class Computing {
 public:
  explicit Computing(const Poll& poll = {});
  ~Computing();
  Computing(const Computing&) = delete;
  Computing& operator=(const Computing&) = delete;
};

class Stillness {
 public:
  explicit Stillness(const Poll& poll = {});
  ~Stillness();
  Stillness(const Stillness&) = delete;
  Stillness& operator=(const Stillness&) = delete;
};

// In a forked child: the threads that computed or waited are not there.
void forget_other_threads();

// One computation at a time, first come, first served.
class Turns {
 public:
  // Throws Error where this thread has the turn, or waits for it, already.
  void take(const Poll& poll);
  void give_back();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::thread::id> waiting_;
  std::thread::id owner_;
};

class Turn {
 public:
  Turn(Turns& turns, const Poll& poll) : turns_(turns) { turns_.take(poll); }
  ~Turn() { turns_.give_back(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Turns& turns_;
};

}  // namespace lathe::python
