// For tests of kernels: the error of the emulator, and every schedule in turn.
#pragma once
#include <simt/sanitizers.h>

#include <stdexcept>

namespace simt {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Runs `test` with threads in each order and cp.async late and early; under a sanitizer in one schedule at random with
// each of late and early: the race detector needs no unlucky order to see a race. (At random, because clang's knows 256
// threads and takes the first of the next block for the one whose place it got: in order, for its own predecessor.)
template <class Test>
void in_every_schedule(Test test) {
  const Config before = config;
#if SIMT_ASAN || SIMT_TSAN
  constexpr Order orders[] = {Order::random};
#else
  constexpr Order orders[] = {Order::forward, Order::reverse, Order::random};
#endif
  struct Restore {
    Config before;
    ~Restore() { config = before; }
  } restore{before};
  for (const Order order : orders)
    for (const CopyAsync copies : {CopyAsync::late, CopyAsync::early}) {
      config.order = order;
      config.copies = copies;
      test();
    }
}

}  // namespace simt
