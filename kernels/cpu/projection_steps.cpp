// Bound by memory and left to the compiler: the same bits on every instruction set.
#include "kernels/projection_steps.h"

#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::cpu {
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
void clamp(T* y, const T* x, int64_t ldx, T bound, int64_t rows, int64_t n) {
  by_rows("clamp", 2 * int64_t{sizeof(T)}, rows, n, [=](int64_t row, int64_t i) {
    const T value = x[row * ldx + i];
    y[row * n + i] = value > bound ? bound : value < -bound ? -bound : value;
  });
}

template <class T>
void clamp_backward(T* dx, const T* dy, const T* x, int64_t ldx, T bound, int64_t rows, int64_t n) {
  by_rows("clamp_backward", 3 * int64_t{sizeof(T)}, rows, n, [=](int64_t row, int64_t i) {
    const T value = x[row * ldx + i];
    dx[row * n + i] = value >= -bound && value <= bound ? dy[row * n + i] : T(0);
  });
}

template <class T>
void scale_rows(T* y, const T* x, int64_t ldx, const T* factors, int64_t rows, int64_t n) {
  by_rows("scale_rows", 2 * int64_t{sizeof(T)}, rows, n,
          [=](int64_t row, int64_t i) { y[row * n + i] = factors[row] * x[row * ldx + i]; });
}

template void clamp(float*, const float*, int64_t, float, int64_t, int64_t);
template void clamp(double*, const double*, int64_t, double, int64_t, int64_t);
template void clamp_backward(float*, const float*, const float*, int64_t, float, int64_t, int64_t);
template void clamp_backward(double*, const double*, const double*, int64_t, double, int64_t, int64_t);
template void scale_rows(float*, const float*, int64_t, const float*, int64_t, int64_t);
template void scale_rows(double*, const double*, int64_t, const double*, int64_t, int64_t);

}  // namespace lathe::cpu
