// The schedules in which kernels are tried: those of the emulator; in a program with CUDA itself (a build with
// LATHE_CUDA) there is the device's own.
#pragma once

#if __has_include(<simt/simt.h>)
#include <simt/schedules.h>
#include <simt/simt.h>

namespace lathe::test {
inline constexpr bool kEmulated = true;
}
#else
#include <cstdint>

namespace lathe::test {
inline constexpr bool kEmulated = false;
}

namespace simt {

enum class Order { forward, reverse, random };
inline struct { Order order = Order::forward; } config;
inline struct Statistics { uint64_t matrix_products = 0, bank_conflicts = 0; } statistics;

template <class Test>
void in_every_schedule(Test test) {
  test();
}

}  // namespace simt
#endif
