// Steps of optimizers on a CUDA device: four elements a thread, each array read and written once.
//
// Limits derived at 3.0 TB/s, bytes an element: adamw 28 (32 where the gradient is cleared), sgd 20 with momentum,
// sum_of_squares 4. 124 M weights: 1.16 ms and 0.17 ms. Not measured yet: no GPU has run it.
#include "kernels/cuda/over_grid.h"
#include "kernels/optimizer_factors.h"

namespace lathe::kernel {
namespace {

constexpr int kThreads = 256, kMostBlocks = static_cast<int>(kSumsOfSquares) - 1;

// Block b takes every gridDim-th piece of 1,024 elements; its sum goes to sums[1 + b].
template <bool kVector>
__global__ void __launch_bounds__(kThreads) squares_kernel(double* sums, const float* x, int64_t n) {
  double sum = 0.0;
#pragma unroll 4
  for (int64_t i = 4 * (int64_t{blockIdx.x} * kThreads + threadIdx.x); i < n; i += int64_t{4} * kThreads * gridDim.x) {
    const Four v = load_four<kVector>(x + i, n - i);
#pragma unroll
    for (int j = 0; j < 4; ++j) sum += static_cast<double>(v.v[j]) * static_cast<double>(v.v[j]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[1 + blockIdx.x] = sum;
}
__global__ void __launch_bounds__(kThreads) sum_kernel(double* sums, int blocks) {
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < blocks; i += kThreads) sum += sums[1 + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[0] = sum;
}

template <bool kVector>
struct AdamwFours {
  float *w, *m, *v, *g;
  int64_t n;
  AdamwFactors f;

  __device__ void operator()(int64_t, int64_t item) const {
    const int64_t i = 4 * item, left = n - i;
    const Four g4 = load_four<kVector>(g + i, left);
    Four w4 = load_four<kVector>(w + i, left), m4 = load_four<kVector>(m + i, left);
    Four v4 = load_four<kVector>(v + i, left);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float d = g4.v[j] * f.gradient_scale;
      m4.v[j] += f.one_minus_beta1 * (d - m4.v[j]);
      v4.v[j] = v4.v[j] * f.beta2 + f.one_minus_beta2 * d * d;
      w4.v[j] = w4.v[j] * f.keep - f.step_size * m4.v[j] / (sqrtf(v4.v[j]) / f.root_correction2 + f.epsilon);
    }
    store_four<kVector>(w + i, w4, left);
    store_four<kVector>(m + i, m4, left);
    store_four<kVector>(v + i, v4, left);
    if (f.clear_gradient) store_four<kVector>(g + i, Four{}, left);
  }
};

template <bool kVector>
struct SgdFours {
  float *w, *m, *g;
  int64_t n;
  SgdFactors f;

  __device__ void operator()(int64_t, int64_t item) const {
    const int64_t i = 4 * item, left = n - i;
    Four d = load_four<kVector>(g + i, left), w4 = load_four<kVector>(w + i, left), m4 = {};
    if (m != nullptr) m4 = load_four<kVector>(m + i, left);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      d.v[j] = d.v[j] * f.gradient_scale + f.weight_decay * w4.v[j];
      d.v[j] = m4.v[j] * f.momentum + d.v[j];
      w4.v[j] -= f.learning_rate * d.v[j];
    }
    if (m != nullptr) store_four<kVector>(m + i, d, left);
    store_four<kVector>(w + i, w4, left);
    if (f.clear_gradient) store_four<kVector>(g + i, Four{}, left);
  }
};

}  // namespace

void sum_of_squares(Cuda on, double* sums, const float* x, int64_t n) {
  const auto blocks = static_cast<int>(std::clamp<int64_t>(ceil_divide(n, 4 * kThreads), 1, kMostBlocks));
  const dim3 grid(static_cast<unsigned>(blocks));
  if (fours_aligned(x))
    LAUNCH((squares_kernel<true>), grid, dim3(kThreads), 0, on.stream, sums, x, n);
  else
    LAUNCH((squares_kernel<false>), grid, dim3(kThreads), 0, on.stream, sums, x, n);
  LAUNCH(sum_kernel, dim3(1), dim3(kThreads), 0, on.stream, sums, blocks);
}

void adamw_step(Cuda on, float* w, float* m, float* v, float* g, int64_t n, const AdamwStep& step) {
  const auto launch = [&](auto vector) {
    over_grid(on, 1, ceil_divide(n, 4), AdamwFours<decltype(vector)::value>{w, m, v, g, n, factors_of(step)});
  };
  fours_aligned(w) && fours_aligned(m) && fours_aligned(v) && fours_aligned(g) ? launch(std::true_type())
                                                                               : launch(std::false_type());
}

void sgd_step(Cuda on, float* w, float* m, float* g, int64_t n, const SgdStep& step) {
  const auto launch = [&](auto vector) {
    over_grid(on, 1, ceil_divide(n, 4), SgdFours<decltype(vector)::value>{w, m, g, n, factors_of(step)});
  };
  fours_aligned(w) && fours_aligned(m) && fours_aligned(g) ? launch(std::true_type()) : launch(std::false_type());
}

}  // namespace lathe::kernel
