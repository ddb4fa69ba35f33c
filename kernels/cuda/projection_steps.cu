// Clamps and factors by token on a CUDA device. Limits derived at 3.0 TB/s: 8 bytes an element, 12 of clamp_backward.
// Not measured yet: no GPU has run it.
#include <cmath>

#include "kernels/cuda/over_grid.h"
#include "kernels/projection_steps.h"

namespace lathe::kernel {
namespace {

struct Clamp {
  float bound;
  __device__ float operator()(float x) const { return x > bound ? bound : x < -bound ? -bound : x; }
};
struct ClampBackward {
  float bound;
  __device__ float operator()(float dy, float x) const { return x >= -bound && x <= bound ? dy : 0.0f; }
};

template <class T>
struct LogPositionFactors {
  T* factors;
  const int32_t* positions;
  double log_base;
  __device__ void operator()(int64_t, int64_t i) const {
    const double factor = log(positions[i] + 1.0) / log_base;
    factors[i] = static_cast<T>(factor > 1.0 ? factor : 1.0);
  }
};

template <bool kVector, class T>
struct ScaleRows {
  T* y;
  Rows<const T> x;
  const T* factors;
  int64_t n;
  __device__ void operator()(int64_t row, int64_t item) const {
    const int64_t i = 4 * item;
    const float factor = to_float(factors[row]);
    Four v = load_four<kVector>(row_of(x, row) + i, n - i);
#pragma unroll
    for (int j = 0; j < 4; ++j) v.v[j] *= factor;
    store_four<kVector>(y + row * n + i, v, n - i);
  }
};

}  // namespace

template <class T>
void clamp(Cuda on, T* y, ConstRows<T> x, T bound, int64_t rows, int64_t n) {
  map_rows(on, Rows<T>(y, n), rows, n, Clamp{bound}, x);
}
template <class T>
void clamp_backward(Cuda on, T* dx, const T* dy, ConstRows<T> x, T bound, int64_t rows, int64_t n) {
  map_rows(on, Rows<T>(dx, n), rows, n, ClampBackward{bound}, Rows<const T>(dy, n), x);
}
template <class T>
void log_position_factors(Cuda on, T* factors, const int32_t* positions, int64_t n, int64_t base) {
  over_grid(on, 1, n, LogPositionFactors<T>{factors, positions, std::log(static_cast<double>(base))});
}
template <class T>
void scale_rows(Cuda on, T* y, ConstRows<T> x, const T* factors, int64_t rows, int64_t n) {
  if (n % 4 == 0 && fours_aligned(y) && fours_aligned(x))
    over_grid(on, rows, ceil_divide(n, 4), ScaleRows<true, T>{y, x, factors, n});
  else
    over_grid(on, rows, ceil_divide(n, 4), ScaleRows<false, T>{y, x, factors, n});
}

template void clamp(Cuda, float*, ConstRows<float>, float, int64_t, int64_t);
template void clamp_backward(Cuda, float*, const float*, ConstRows<float>, float, int64_t, int64_t);
template void log_position_factors(Cuda, float*, const int32_t*, int64_t, int64_t);
template void scale_rows(Cuda, float*, ConstRows<float>, const float*, int64_t, int64_t);

}  // namespace lathe::kernel
