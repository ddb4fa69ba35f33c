// Bound by memory and left to the compiler: the same bits on every instruction set.
#include "kernels/projection_steps.h"

#include <algorithm>
#include <cmath>

#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

// Calls f(row, column) for every element, rows shared out between the threads.
template <class F>
void by_rows(const char* name, int64_t bytes, int64_t rows, int64_t n, F&& f) {
  const ProfileScope profile([&] { return ProfiledCall{name, bytes * rows * n, rows * n}; });
  parallel_for(rows, kGrainElements / (n + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < n; ++i) f(row, i);
  });
}

}  // namespace

template <class T>
void clamp(Cpu, T* y, ConstRows<T> x, T bound, int64_t rows, int64_t n) {
  by_rows("clamp", 2 * int64_t{sizeof(T)}, rows, n, [=](int64_t row, int64_t i) {
    const T value = x[row][i];
    y[row * n + i] = value > bound ? bound : value < -bound ? -bound : value;
  });
}

template <class T>
void clamp_backward(Cpu, T* dx, const T* dy, ConstRows<T> x, T bound, int64_t rows, int64_t n) {
  by_rows("clamp_backward", 3 * int64_t{sizeof(T)}, rows, n, [=](int64_t row, int64_t i) {
    const T value = x[row][i];
    dx[row * n + i] = value >= -bound && value <= bound ? dy[row * n + i] : T(0);
  });
}

template <class T>
void log_position_factors(Cpu, T* factors, const int32_t* positions, int64_t n, int64_t base) {
  const double log_base = std::log(static_cast<double>(base));
  for (int64_t i = 0; i < n; ++i) factors[i] = static_cast<T>(std::max(1.0, std::log(positions[i] + 1.0) / log_base));
}

template <class T>
void scale_rows(Cpu, T* y, ConstRows<T> x, const T* factors, int64_t rows, int64_t n) {
  by_rows("scale_rows", 2 * int64_t{sizeof(T)}, rows, n,
          [=](int64_t row, int64_t i) { y[row * n + i] = factors[row] * x[row][i]; });
}

#define LATHE_INSTANTIATE(T)                                                          \
  template void clamp(Cpu, T*, ConstRows<T>, T, int64_t, int64_t);                    \
  template void clamp_backward(Cpu, T*, const T*, ConstRows<T>, T, int64_t, int64_t); \
  template void log_position_factors(Cpu, T*, const int32_t*, int64_t, int64_t);      \
  template void scale_rows(Cpu, T*, ConstRows<T>, const T*, int64_t, int64_t);
LATHE_INSTANTIATE(float)
LATHE_INSTANTIATE(double)
#undef LATHE_INSTANTIATE

}  // namespace lathe::kernel
