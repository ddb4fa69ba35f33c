// A stack of its own for each CUDA thread, and the switch from one to another.
#pragma once
#include <simt/sanitizers.h>

#include <cstddef>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simt {

class Context {
 public:
  // The context of the thread that calls this.
  void adopt_thread();
  // A new stack with a guard page below it.
  void make(size_t stack_bytes);
  void destroy();
  // The next switch to it starts `entry`, which never returns. What was on the stack is dropped without destructors.
  void start_at(void (*entry)());
  // Leaves `this`, which runs, for `to`; returns when something switches back. `ends`: nothing will.
  void switch_to(Context& to, bool ends);
  // The first thing that `entry` calls.
  void entered();

 private:
  char* stack_ = nullptr;
  size_t bytes_ = 0;
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  [[maybe_unused]] void* race_detector_ = nullptr;  // TSan's fiber
  [[maybe_unused]] void* fake_stack_ = nullptr;     // ASan's
};

}  // namespace simt
