// Cross-entropy on a CUDA device. A block of 512 threads takes in a row's columns in one pass: a thread keeps the
// largest logit and the sum of exp(logit - largest) of its columns, 16 columns at a time in f32, their total in double;
// then the threads' sums meet in a fixed tree.
//
// Limits derived at 3.0 TB/s: logsumexp_update 4 bytes a logit, the backward 8. 8,192 rows of 50,304: 0.55 and 1.1 ms.
// cross_entropy is one block, which takes 64 double logarithms a thread for 65,536 rows: some 20 us. Not measured yet:
// no GPU has run it.
#include "kernels/cross_entropy.h"
#include "kernels/cuda/over_grid.h"

namespace lathe::kernel {
namespace {

constexpr int kThreads = 512, kFours = 4;  // fours of a thread at a time

template <class T>
struct Start {
  RunningLogsumexp<T> state;
  __device__ void operator()(int64_t, int64_t i) const {
    state.maximum[i] = -INFINITY;
    state.sum[i] = 0.0;
    state.target_logit[i] = 0.0f;
  }
};

// What exponents are relative to: 0 where all logits are minus infinity, for whose difference would be NaN.
__device__ __forceinline__ float finite_maximum(float maximum) { return maximum == -INFINITY ? 0.0f : maximum; }
// The sum relative to `to` of a sum relative to `from`, its maximum, which is no larger.
__device__ __forceinline__ double rescaled(double sum, float from, float to) {
  return from == to || from == -INFINITY ? sum : sum * exp(static_cast<double>(from) - static_cast<double>(to));
}

template <bool kVector, class T>
__global__ void __launch_bounds__(kThreads)
    logsumexp_kernel(const RunningLogsumexp<T> state, const Rows<const T> logits, const int32_t* targets, int64_t first,
                     int64_t width) {
  const int64_t row = blockIdx.x;
  const T* const x = row_of(logits, row);
  float maximum = -INFINITY;
  double sum = 0.0;
  for (int64_t begin = 4 * threadIdx.x; begin < width; begin += int64_t{4} * kThreads * kFours) {
    float v[4 * kFours];
    float most = maximum;
#pragma unroll
    for (int k = 0; k < kFours; ++k) {
      const int64_t left = width - (begin + int64_t{4} * kThreads * k);
      const Four four = load_four<kVector>(x + (width - left), left);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        v[4 * k + j] = j < left ? four.v[j] : -INFINITY;
        most = fmaxf(most, v[4 * k + j]);
      }
    }
    sum = rescaled(sum, maximum, most);
    maximum = most;
    const float shift = finite_maximum(most);
    float part = 0.0f;
#pragma unroll
    for (int k = 0; k < 4 * kFours; ++k) part += expf(v[k] - shift);
    sum += static_cast<double>(part);
  }
  const float largest = block_max(maximum);
  const double total = block_sum(rescaled(sum, maximum, largest));
  if (threadIdx.x != 0) return;
  const int64_t target = targets[row] - first;  // negative too where there is none
  if (target >= 0 && target < width) state.target_logit[row] = x[target];
  const float before = state.maximum[row], now = fmaxf(before, largest);
  state.sum[row] = rescaled(state.sum[row], before, now) + rescaled(total, largest, now);
  state.maximum[row] = now;
}

template <class T>
__device__ __forceinline__ double logsumexp_of(const RunningLogsumexp<T>& state, int64_t row) {
  return static_cast<double>(state.maximum[row]) + log(state.sum[row]);
}

// One block.
template <class T>
__global__ void __launch_bounds__(1024)
    cross_entropy_kernel(T* loss, double* factor, float* logsumexp, const RunningLogsumexp<T> state,
                         const int32_t* targets, int64_t n, double total) {
  double sum = 0.0, counted = 0.0;
  for (int64_t row = threadIdx.x; row < n; row += 1024) {
    const double value = logsumexp_of(state, row);
    logsumexp[row] = static_cast<float>(value);
    if (targets[row] < 0) continue;
    sum += value - static_cast<double>(state.target_logit[row]);
    counted += 1.0;
  }
  sum = block_sum(sum);
  counted = block_sum(counted);
  if (threadIdx.x != 0) return;
  const double f = counted == 0.0 ? 0.0 : 1.0 / (total > 0.0 ? total : counted);
  *factor = f;
  *loss = static_cast<T>(counted == 0.0 ? 0.0 : sum * f);
}

template <class T>
struct LogProbabilities {
  T* y;
  RunningLogsumexp<T> state;
  const int32_t* targets;
  __device__ void operator()(int64_t, int64_t row) const {
    y[row] = targets[row] < 0 ? 0.0f
                              : static_cast<T>(static_cast<double>(state.target_logit[row]) - logsumexp_of(state, row));
  }
};

template <bool kVector, class T>
struct CrossEntropyBackward {
  T* dlogits;
  Rows<const T> logits;
  const float* logsumexp;
  const int32_t* targets;
  int64_t first, width;
  const T* dloss;
  const double* factor;

  __device__ void operator()(int64_t row, int64_t item) const {
    const int64_t i = 4 * item, left = width - i;
    const int32_t target = targets[row];
    Four y = {};
    if (target >= 0) {
      const float scale = static_cast<float>(*factor * static_cast<double>(*dloss)), shift = logsumexp[row];
      const Four x = load_four<kVector>(row_of(logits, row) + i, left);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        y.v[j] = scale * expf(x.v[j] - shift);
        if (target - first == i + j) y.v[j] -= scale;
      }
    }
    store_four<kVector>(dlogits + row * width + i, y, left);
  }
};

}  // namespace

template <class T>
void logsumexp_start(Cuda on, const RunningLogsumexp<T>& state, int64_t n) {
  over_grid(on, 1, n, Start<T>{state});
}

template <class T>
void logsumexp_update(Cuda on, const RunningLogsumexp<T>& state, ConstRows<T> logits, const int32_t* targets, int64_t n,
                      int64_t first, int64_t width) {
  if (n == 0 || width == 0) return;
  const dim3 grid(static_cast<unsigned>(n)), block(kThreads);
  if (fours_aligned(logits))
    LAUNCH((logsumexp_kernel<true, T>), grid, block, 0, on.stream, state, logits, targets, first, width);
  else
    LAUNCH((logsumexp_kernel<false, T>), grid, block, 0, on.stream, state, logits, targets, first, width);
}

template <class T>
void cross_entropy(Cuda on, T* loss, double* factor, Sum<T>* logsumexp, const RunningLogsumexp<T>& state,
                   const int32_t* targets, int64_t n, double total) {
  LAUNCH((cross_entropy_kernel<T>), dim3(1), dim3(1024), 0, on.stream, loss, factor, logsumexp, state, targets, n,
         total);
}

template <class T>
void log_probabilities(Cuda on, T* y, const RunningLogsumexp<T>& state, const int32_t* targets, int64_t n) {
  over_grid(on, 1, n, LogProbabilities<T>{y, state, targets});
}

template <class T>
void cross_entropy_backward(Cuda on, T* dlogits, ConstRows<T> logits, const Sum<T>* logsumexp, const int32_t* targets,
                            int64_t n, int64_t first, int64_t width, const T* dloss, const double* factor) {
  const auto launch = [&](auto vector) {
    const CrossEntropyBackward<decltype(vector)::value, T> f{dlogits, logits, logsumexp, targets,
                                                             first,   width,  dloss,     factor};
    over_grid(on, n, ceil_divide(width, 4), f);
  };
  width % 4 == 0 && fours_aligned(dlogits) && fours_aligned(logits) ? launch(std::true_type())
                                                                    : launch(std::false_type());
}

template void logsumexp_start(Cuda, const RunningLogsumexp<float>&, int64_t);
template void logsumexp_update(Cuda, const RunningLogsumexp<float>&, ConstRows<float>, const int32_t*, int64_t, int64_t,
                               int64_t);
template void cross_entropy(Cuda, float*, double*, float*, const RunningLogsumexp<float>&, const int32_t*, int64_t,
                            double);
template void log_probabilities(Cuda, float*, const RunningLogsumexp<float>&, const int32_t*, int64_t);
template void cross_entropy_backward(Cuda, float*, ConstRows<float>, const float*, const int32_t*, int64_t, int64_t,
                                     int64_t, const float*, const double*);

}  // namespace lathe::kernel
