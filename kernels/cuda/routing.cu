// Routing of tokens to experts on CUDA: a warp a token, or a block an expert. Nothing is read on the host, and nothing
// is added by atomics: each sum has one order.
//
// Not-a-number is below every number here: k different experts are chosen even then.
//
// Version 1. Bytes: choose_experts reads N E logits once and k times more from the first-level cache; combine_experts
// moves 4 N C (k + 1) bytes, its backward 4 N C (2 k + 1): derived limits 1.0 and 1.7 us for 64 tokens of 4,096 columns
// with two experts each at 3.0 TB/s. The sort reads N k numbers twice a block, E blocks, from the second-level cache:
// 67 MB at N k = 65,536, E = 128. add_expert_loads has one block for 128 experts: its 32 warps take the rows in turn,
// four at a time, 512 times at N = 65,536. Not measured yet: no GPU has run it.
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/loads.h"
#include "kernels/routing.h"

namespace lathe::kernel {
namespace {

constexpr int kWarps = 8, kBlock = 32 * kWarps;

__device__ __forceinline__ int64_t warp_index() { return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; }

// Larger for what is chosen earlier: by the logit, then by the lower index. -0 and 0 are equal.
__device__ __forceinline__ unsigned long long rank_of(float z, int64_t i) {
  const uint32_t bits = __float_as_uint(z + 0.0f);
  const uint32_t ordered = z != z ? 0u : bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<unsigned long long>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(i));
}

// The sum over i of exp(z[i] - top), in the order of a warp.
__device__ __forceinline__ float sum_of_exp(const float* z, float top, int64_t e) {
  float sum = 0.0f;
  for (int64_t i = threadIdx.x % 32; i < e; i += 32) sum += expf(z[i] - top);
  return warp_sum(sum);
}

__global__ void __launch_bounds__(kBlock)
    choose_kernel(float* weights, int32_t* experts, const float* logits, int64_t stride, int64_t n, int64_t e,
                  int64_t k, bool normalise) {
  const int64_t row = warp_index();
  const int lane = threadIdx.x % 32;
  if (row >= n) return;
  const float* z = logits + row * stride;
  unsigned long long before = ~0ull;
  float top = 0.0f, chosen = 0.0f;
  for (int64_t j = 0; j < k; ++j) {
    unsigned long long best = 0;
    for (int64_t i = lane; i < e; i += 32) {
      const unsigned long long rank = rank_of(z[i], i);
      if (rank < before) best = max(best, rank);
    }
    before = warp_max(best);
    const auto id = static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(before));
    if (j == 0) top = z[id];
    const float weight = expf(z[id] - top);
    chosen += weight;
    if (lane == 0) {
      experts[row * k + j] = id;
      weights[row * k + j] = weight;
    }
  }
  const float sum = normalise ? chosen : sum_of_exp(z, top, e);
  __syncwarp();
  for (int64_t j = lane; j < k; j += 32) weights[row * k + j] /= sum;
}

__global__ void __launch_bounds__(kBlock)
    choose_backward_kernel(float* dlogits, const float* dweights, const float* weights, const float* logits,
                           int64_t stride, const int32_t* experts, int64_t n, int64_t e, int64_t k, bool normalise) {
  const int64_t row = warp_index();
  if (row >= n) return;
  const int32_t* ids = experts + row * k;
  const float *dw = dweights + row * k, *w = weights + row * k, *z = logits + row * stride;
  float dot = 0.0f;
  for (int64_t j = 0; j < k; ++j) dot += w[j] * dw[j];
  const float top = z[ids[0]], sum = normalise ? 1.0f : sum_of_exp(z, top, e);
  for (int64_t i = threadIdx.x % 32; i < e; i += 32) {
    float d = normalise ? 0.0f : -dot * (expf(z[i] - top) / sum);
    for (int64_t j = 0; j < k; ++j)
      if (ids[j] == i) d += w[j] * (normalise ? dw[j] - dot : dw[j]);
    dlogits[row * e + i] = d;
  }
}

// A stable counting sort without a step between blocks: block `expert` counts the pairs of lower experts, which come
// before its own, and how many of its own each warp has in its part of the pairs; then the warps put theirs in order.
constexpr int kSortWarps = 16;
__global__ void __launch_bounds__(32 * kSortWarps)
    sort_kernel(int32_t* starts, int32_t* rows, int32_t* places, const int32_t* experts, int64_t pairs, int64_t k) {
  SHARED_ARRAY(int, own, [kSortWarps]);
  const int expert = static_cast<int>(blockIdx.x), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t part = ceil_divide(pairs, 32 * kSortWarps) * 32;
  const int64_t first = warp * part, last = min(first + part, pairs);
  int lower = 0, equal = 0;
  for (int64_t i = first + lane; i < last; i += 32) {
    lower += experts[i] < expert ? 1 : 0;
    equal += experts[i] == expert ? 1 : 0;
  }
  equal = warp_sum(equal);
  if (lane == 0) own[warp] = equal;
  const int start = block_sum(lower);
  int place = start;
  for (int w = 0; w < warp; ++w) place += own[w];
  if (threadIdx.x == 0) starts[expert] = start;
  if (threadIdx.x == 0 && expert + 1 == static_cast<int>(gridDim.x)) starts[expert + 1] = static_cast<int32_t>(pairs);
  for (int64_t base = first; base < last; base += 32) {
    const int64_t i = base + lane;
    const bool mine = i < last && experts[i] == expert;
    const unsigned all = __ballot_sync(kAllLanes, mine ? 1 : 0);
    if (mine) {
      const int at = place + __popc(all & ((1u << lane) - 1));
      places[i] = at;
      rows[at] = static_cast<int32_t>(i / k);
    }
    place += __popc(all);
  }
}

// A thread has four columns of a token.
__global__ void __launch_bounds__(kBlock) combine_kernel(float* y, const float* x, const float* weights,
                                                         const int32_t* places, int64_t n, int64_t k, int64_t c) {
  const int64_t fours = ceil_divide(c, 4), unit = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  const int64_t row = unit / fours, column = unit % fours * 4;
  if (row >= n) return;
  const bool aligned = rows_aligned(x, c);
  Four sum = {};
  for (int64_t j = row * k; j < (row + 1) * k; ++j) {
    const Four v = load_some(x + places[j] * c + column, c - column, aligned);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum.v[i] += weights[j] * v.v[i];
  }
  store_some(y + row * c + column, sum, c - column, rows_aligned(y, c));
}

// A warp has a pair of a token and an expert.
__global__ void __launch_bounds__(kBlock)
    combine_backward_kernel(float* dx, float* dweights, const float* dy, const float* x, const float* weights,
                            const int32_t* places, int64_t pairs, int64_t k, int64_t c) {
  const int64_t pair = warp_index();
  if (pair >= pairs) return;
  const int lane = threadIdx.x % 32;
  const float *d = dy + pair / k * c, *in = x + places[pair] * c, weight = weights[pair];
  float* to = dx + places[pair] * c;
  const bool d_aligned = rows_aligned(dy, c), aligned = rows_aligned(x, c), to_aligned = rows_aligned(dx, c);
  float dot = 0.0f;
  for (int64_t column = lane * 4; column < c; column += 128) {
    const Four a = load_some(d + column, c - column, d_aligned), b = load_some(in + column, c - column, aligned);
    Four scaled;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scaled.v[i] = weight * a.v[i];
      dot += a.v[i] * b.v[i];
    }
    store_some(to + column, scaled, c - column, to_aligned);
  }
  dot = warp_sum(dot);
  if (lane == 0) dweights[pair] = dot;
}

// Block b has experts [128 b, 128 b + 128), lane l of each warp l + 32 q. A warp takes every 32nd row, four
// at a time so that their reads overlap.
constexpr int kLoadWarps = 32, kLoads = 4, kLoadRows = 4;
__global__ void __launch_bounds__(32 * kLoadWarps)
    loads_kernel(double* chosen, double* probability, const float* logits, int64_t stride, const int32_t* experts,
                 int64_t n, int64_t e, int64_t k) {
  SHARED_ARRAY(double, sums, [kLoadWarps][32]);
  SHARED_ARRAY(int, counts, [kLoadWarps][32]);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * 32 * kLoads + lane;
  double sum[kLoads] = {};
  int count[kLoads] = {};
  const bool whole = e <= 32 * kLoads;
  for (int64_t base = warp; base < n; base += kLoadWarps * kLoadRows) {
#pragma unroll
    for (int r = 0; r < kLoadRows; ++r) {
      const int64_t row = base + r * kLoadWarps;
      if (row >= n) continue;
      const float *z = logits + row * stride, top = z[experts[row * k]];
      float p[kLoads], all = 0.0f;
#pragma unroll
      for (int q = 0; q < kLoads; ++q) all += p[q] = first + 32 * q < e ? expf(z[first + 32 * q] - top) : 0.0f;
      all = whole ? warp_sum(all) : sum_of_exp(z, top, e);
#pragma unroll
      for (int q = 0; q < kLoads; ++q) {
        sum[q] += static_cast<double>(p[q] / all);
        for (int64_t j = row * k; j < (row + 1) * k; ++j) count[q] += experts[j] == first + 32 * q ? 1 : 0;
      }
    }
  }
#pragma unroll
  for (int q = 0; q < kLoads; ++q) {
    sums[warp][lane] = sum[q];
    counts[warp][lane] = count[q];
    __syncthreads();
    const int64_t i = first + 32 * q;
    if (warp == 0 && i < e) {
      double total = 0;
      int times = 0;
      for (int w = 0; w < kLoadWarps; ++w) {
        total += sums[w][lane];
        times += counts[w][lane];
      }
      probability[i] += total;
      chosen[i] += times;
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(32) balancing_kernel(float* loss, double* slope, const double* chosen,
                                                       const double* probability, int64_t e, double rows) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < e; i += 32) {
    const double s = static_cast<double>(e) * chosen[i] / (rows * rows);
    slope[i] = s;
    sum += s * probability[i];
  }
  sum = warp_sum(sum);
  if (threadIdx.x == 0) *loss = static_cast<float>(sum);
}

__global__ void __launch_bounds__(kBlock)
    balancing_backward_kernel(float* dlogits, const float* dloss, const double* slope, const float* logits,
                              int64_t stride, int64_t n, int64_t e) {
  const int64_t row = warp_index();
  if (row >= n) return;
  const int lane = threadIdx.x % 32;
  const float* z = logits + row * stride;
  const double d = *dloss;
  const auto dprobability = [&](int64_t i) { return static_cast<float>(slope[i] * d); };
  float top = -INFINITY;
  for (int64_t i = lane; i < e; i += 32) top = fmaxf(top, z[i]);
  top = warp_max(top);
  const float sum = sum_of_exp(z, top, e);
  float dot = 0.0f;
  for (int64_t i = lane; i < e; i += 32) dot += expf(z[i] - top) / sum * dprobability(i);
  dot = warp_sum(dot);
  for (int64_t i = lane; i < e; i += 32) dlogits[row * e + i] = expf(z[i] - top) / sum * (dprobability(i) - dot);
}

}  // namespace

template <>
void choose_experts(Cuda on, float* weights, int32_t* experts, ConstRows<float> logits, int64_t n, int64_t e, int64_t k,
                    bool normalise) {
  if (n == 0) return;
  LAUNCH(choose_kernel, dim3(blocks_of(n, kWarps)), dim3(kBlock), 0, on.stream, weights, experts, logits.data,
         logits.stride, n, e, k, normalise);
}

template <>
void choose_experts_backward(Cuda on, float* dlogits, const float* dweights, const float* weights,
                             ConstRows<float> logits, const int32_t* experts, int64_t n, int64_t e, int64_t k,
                             bool normalise) {
  if (n == 0) return;
  LAUNCH(choose_backward_kernel, dim3(blocks_of(n, kWarps)), dim3(kBlock), 0, on.stream, dlogits, dweights, weights,
         logits.data, logits.stride, experts, n, e, k, normalise);
}

void sort_by_expert(Cuda on, int32_t* starts, int32_t* rows, int32_t* places, const int32_t* experts, int64_t n,
                    int64_t k, int64_t e) {
  LAUNCH(sort_kernel, dim3(static_cast<unsigned>(e)), dim3(32 * kSortWarps), 0, on.stream, starts, rows, places,
         experts, n * k, k);
}

template <>
void combine_experts(Cuda on, float* y, const float* x, const float* weights, const int32_t* places, int64_t n,
                     int64_t k, int64_t c) {
  if (n == 0) return;
  LAUNCH(combine_kernel, dim3(blocks_of(n * ceil_divide(c, 4), kBlock)), dim3(kBlock), 0, on.stream, y, x, weights,
         places, n, k, c);
}

template <>
void combine_experts_backward(Cuda on, float* dx, float* dweights, const float* dy, const float* x,
                              const float* weights, const int32_t* places, int64_t n, int64_t k, int64_t c) {
  if (n == 0) return;
  LAUNCH(combine_backward_kernel, dim3(blocks_of(n * k, kWarps)), dim3(kBlock), 0, on.stream, dx, dweights, dy, x,
         weights, places, n * k, k, c);
}

template <>
void add_expert_loads<float>(Cuda on, double* chosen, double* probability, ConstRows<float> logits,
                             const int32_t* experts, int64_t n, int64_t e, int64_t k) {
  LAUNCH(loads_kernel, dim3(blocks_of(e, 32 * kLoads)), dim3(32 * kLoadWarps), 0, on.stream, chosen, probability,
         logits.data, logits.stride, experts, n, e, k);
}

template <>
void load_balancing(Cuda on, float* loss, double* slope, const double* chosen, const double* probability, int64_t e,
                    int64_t rows) {
  LAUNCH(balancing_kernel, dim3(1), dim3(32), 0, on.stream, loss, slope, chosen, probability, e,
         rows > 1 ? static_cast<double>(rows) : 1.0);
}

template <>
void load_balancing_backward(Cuda on, float* dlogits, const float* dloss, const double* slope, ConstRows<float> logits,
                             int64_t n, int64_t e) {
  if (n == 0) return;
  LAUNCH(balancing_backward_kernel, dim3(blocks_of(n, kWarps)), dim3(kBlock), 0, on.stream, dlogits, dloss, slope,
         logits.data, logits.stride, n, e);
}

}  // namespace lathe::kernel
