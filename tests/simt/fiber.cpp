#include <pthread.h>
#include <simt/fiber.h>
#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace simt {
namespace {

constexpr size_t kGuard = 4096;

#if defined(__x86_64__)
// Saves the registers that the System V ABI wants saved, changes the stack: 20 times faster than swapcontext, which
// asks the kernel for the signal mask each time.
__attribute__((naked, noinline)) SIMT_RAW void switch_stack(void** /*save*/, void* /*load*/) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}
#endif

}  // namespace

void Context::adopt_thread() {
#if SIMT_TSAN
  race_detector_ = __tsan_get_current_fiber();
#endif
#if SIMT_ASAN
  pthread_attr_t attributes;
  void* low = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &low, &bytes_);
  pthread_attr_destroy(&attributes);
  stack_ = static_cast<char*>(low);
#endif
}

void Context::make(size_t stack_bytes) {
  void* memory =
      mmap(nullptr, stack_bytes + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuard, PROT_NONE);
  stack_ = static_cast<char*>(memory) + kGuard;
  bytes_ = stack_bytes;
#if SIMT_TSAN
  race_detector_ = __tsan_create_fiber(0);
#endif
}

void Context::destroy() {
  if (stack_ != nullptr) munmap(stack_ - kGuard, bytes_ + kGuard);
  stack_ = nullptr;
#if SIMT_TSAN
  __tsan_destroy_fiber(race_detector_);
#endif
}

SIMT_RAW void Context::start_at(void (*entry)()) {
  allow(stack_, bytes_);
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(stack_ + bytes_);
  *--top = nullptr;  // entry's return address, and the alignment that a call leaves
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = bytes_;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#endif
}

SIMT_RAW void Context::switch_to(Context& to, [[maybe_unused]] bool ends) {
#if SIMT_TSAN
  // Taking turns orders nothing: only what the kernel itself waits for does.
  __tsan_switch_to_fiber(to.race_detector_, __tsan_switch_to_fiber_no_sync);
#endif
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(ends ? nullptr : &fake_stack_, to.stack_, to.bytes_);
#endif
#if defined(__x86_64__)
  switch_stack(&stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&context_, &to.context_);
#endif
  entered();
}

SIMT_RAW void Context::entered() {
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
}

}  // namespace simt
