// Sampling on a GPU: a block a row, no row goes to the host.
//
// Nothing is sorted. "The first token, in descending order, up to which the tokens weigh more than x" is found by
// counting weights by digit of what orders the tokens (`descend`): in 2,048 steps of the scaled logit first, then among
// the tokens of one step alone. Tokens that count are gathered in shared memory as soon as 1,024 of them hold all.
//
// Surprising: weights are integers, exp((logit - highest) / T) in units of 2^-44, so that sums are exact, whatever
// their order: the atomics change no result, and a draw always falls on a token. What weighs less than 2^-45 of the
// best token weighs nothing; 2^18 such tokens together are 2^-27. The CPU adds in double: a border of top_p or min_p or
// a draw within some 1e-7 of it can fall on the neighbour there.
//
// The ladder (one row of 151,936 logits, 608 KB):
//   version 1 (this)   two passes over the row, four with top_k, five with top_p alone where 1,024 tokens hold what
//                      stays; one more with penalties. A pass takes some 6 us where one block reads 100 GB/s from L2;
//                      256 rows from memory at 3.0 TB/s: 52 us. Not measured yet: no GPU has run it.
#include "kernels/cuda/gpu.h"
#include "kernels/sampling.h"

namespace lathe::kernel {
namespace {

using Weight = unsigned long long;
using Order = unsigned long long;  // of a token: less for the more probable one, and for the lower id among equals

constexpr int kSampleThreads = 512, kListed = 1024, kSteps = 2048, kDigits = 256;
constexpr float kStepsANat = 64.0f, kNats = kSteps / kStepsANat;  // what is further below the best weighs nothing
constexpr float kUnit = 0x1p44f;
constexpr float kMostFloat = 3.402823466e38f;

__device__ __forceinline__ unsigned order_of(float logit) {
  const unsigned bits = __float_as_uint(logit + 0.0f);  // -0 is 0
  return (bits >> 31) != 0 ? bits : ~(bits | 0x80000000u);
}
__device__ __forceinline__ float logit_of(unsigned order) {
  return __uint_as_float((order >> 31) != 0 ? order : ~order & 0x7fffffffu);
}
__device__ __forceinline__ Order order_of(float logit, int token) {
  return static_cast<Order>(order_of(logit)) << 32 | static_cast<unsigned>(token);
}

// Some tokens of a row: all of it, or those that were gathered.
struct Tokens {
  const float* logits;
  const int32_t* ids;  // null: 0, 1, 2 ...
  int count;
  const uint32_t* allowed;  // of a whole row: a bit for each token; null: each may be chosen

  __device__ __forceinline__ float logit(float logit, int id) const {
    return allowed == nullptr || (allowed[id / 32] >> id % 32 & 1) != 0 ? logit : -INFINITY;
  }
  __device__ __forceinline__ float at(int id) const { return logit(logits[id], id); }
};
template <class F>
__device__ __forceinline__ void for_each(const Tokens& tokens, F f) {
  const int thread = static_cast<int>(threadIdx.x);
  if (tokens.ids != nullptr) {
    for (int i = thread; i < tokens.count; i += kSampleThreads) f(tokens.logits[i], tokens.ids[i]);
    return;
  }
  int done = 0;
  if (reinterpret_cast<uintptr_t>(tokens.logits) % 16 == 0) {
    done = tokens.count / 4 * 4;
#pragma unroll 2
    for (int i = thread * 4; i < done; i += kSampleThreads * 4) {
      const float4 x = *reinterpret_cast<const float4*>(tokens.logits + i);
      f(tokens.logit(x.x, i), i);
      f(tokens.logit(x.y, i + 1), i + 1);
      f(tokens.logit(x.z, i + 2), i + 2);
      f(tokens.logit(x.w, i + 3), i + 3);
    }
  }
  for (int i = done + thread; i < tokens.count; i += kSampleThreads) f(tokens.at(i), i);
}

// Gathered tokens, in shared memory, in any order.
struct List {
  float* logits;
  int32_t* ids;
  int* count;
};
// Those of which `belongs` holds; false where they are too many. Contains barriers.
template <class Belongs>
__device__ bool gather(List& list, const Tokens& from, Belongs belongs) {
  __syncthreads();
  if (threadIdx.x == 0) *list.count = 0;
  __syncthreads();
  for_each(from, [&](float logit, int id) {
    if (!belongs(logit, id)) return;
    const int at = atomicAdd(list.count, 1);
    if (at >= kListed) return;
    list.logits[at] = logit;
    list.ids[at] = id;
  });
  __syncthreads();
  return *list.count <= kListed;
}

// What a row's logits are measured by, and the shared memory of its block.
struct Row {
  float highest, inverse_temperature;
  Weight* sums;  // (kSteps)
  List kept, step;

  __device__ __forceinline__ float nats(float logit) const {
    const float below = highest - logit;
    return below == 0.0f ? 0.0f : below * inverse_temperature;
  }
  __device__ __forceinline__ int step_of(float logit) const {
    const float t = nats(logit);
    return t < kNats ? static_cast<int>(t * kStepsANat) : kSteps - 1;
  }
  __device__ __forceinline__ Weight weight(float logit, float least) const {
    const float t = nats(logit);
    const float w = expf(-t);
    return w >= least ? static_cast<Weight>(w * kUnit + 0.5f) : 0;
  }
};

// Where the sums, in order, become more than a target.
struct Crossing {
  int digit;    // -1: nowhere
  Weight rest;  // of the target, behind the digits before
};
template <int kCount>
__device__ Crossing crossing(const Weight* sums, Weight target) {
  SHARED_ARRAY(Weight, of_warp, [kSampleThreads / 32]);
  SHARED_ARRAY(Crossing, found, [1]);
  constexpr int kEach = kCount > kSampleThreads ? kCount / kSampleThreads : 1;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  Weight mine = 0;
  for (int i = 0; i < kEach && thread < kCount; ++i) mine += sums[thread * kEach + i];
  Weight end = warp_scan(mine);
  if (lane == 31) of_warp[thread / 32] = end;
  if (thread == 0) found[0] = {-1, 0};
  __syncthreads();
  for (int warp = 0; warp < thread / 32; ++warp) end += of_warp[warp];
  if (end > target && end - mine <= target) {
    Weight rest = target - (end - mine);
    int digit = thread * kEach;
    for (; rest >= sums[digit]; ++digit) rest -= sums[digit];
    found[0] = {digit, rest};
  }
  __syncthreads();
  const Crossing result = found[0];
  __syncthreads();
  return result;
}
__device__ __forceinline__ void clear(Weight* sums, int count) {
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kSampleThreads) sums[i] = 0;
  __syncthreads();
}

// The order of the first token up to which, itself included, `measure` adds up to more than `target`; the last order of
// all where it does not.
template <class Measure>
__device__ Order descend(Row& row, Tokens tokens, Weight target, Measure measure) {
  int step = -1;  // of which the token is, where not all of `tokens` are
  if (tokens.count > kListed) {
    clear(row.sums, kSteps);
    for_each(tokens, [&](float logit, int id) {
      const Weight w = measure(logit, id);
      if (w != 0) atomicAdd(row.sums + row.step_of(logit), w);
    });
    __syncthreads();
    const Crossing at = crossing<kSteps>(row.sums, target);
    if (at.digit < 0) return ~Order{0};
    step = at.digit;
    target = at.rest;
    if (gather(row.step, tokens, [&](float logit, int) { return row.step_of(logit) == step; })) {
      tokens = {row.step.logits, row.step.ids, *row.step.count, nullptr};
      step = -1;
    }
  }
  Order found = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    clear(row.sums, kDigits);
    for_each(tokens, [&](float logit, int id) {
      if (step >= 0 && row.step_of(logit) != step) return;
      const Order order = order_of(logit, id);
      if (shift < 56 && (order ^ found) >> (shift + 8) != 0) return;
      const Weight w = measure(logit, id);
      if (w != 0) atomicAdd(row.sums + (order >> shift & (kDigits - 1)), w);
    });
    __syncthreads();
    const Crossing at = crossing<kDigits>(row.sums, target);
    if (at.digit < 0) return ~Order{0};
    found |= static_cast<Order>(at.digit) << shift;
    target = at.rest;
  }
  return found;
}

// The first token, by id, up to which weights add up to more than the share `random` of all.
__device__ int draw_by_id(const Row& row, const Tokens& tokens, double random, float least) {
  SHARED_ARRAY(int, drawn, [1]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  int shift = 5;  // a warp's 32 ids have one sum
  while (tokens.count >> shift >= kSteps) ++shift;
  clear(row.sums, kSteps);
  Weight all = 0;
  for (int base = 0; base < tokens.count; base += kSampleThreads) {
    const int id = base + thread;
    const Weight w = warp_sum(id < tokens.count ? row.weight(tokens.at(id), least) : Weight{0});
    if (lane == 0 && w != 0) atomicAdd(row.sums + (id >> shift), w);
    if (lane == 0) all += w;
  }
  all = block_sum(all);
  const double share = random * static_cast<double>(all);
  const Weight target = min(static_cast<Weight>(share), all - 1);
  const Crossing at = crossing<kSteps>(row.sums, target);
  if (thread < 32) {
    Weight rest = at.rest;
    for (int base = at.digit << shift; base < tokens.count; base += 32) {
      const int id = base + lane;
      const Weight end = warp_scan(id < tokens.count ? row.weight(tokens.at(id), least) : Weight{0});
      const unsigned beyond = __ballot_sync(kAllLanes, end > rest);
      if (beyond != 0) {
        if (lane == 0) drawn[0] = base + __ffs(static_cast<int>(beyond)) - 1;
        break;
      }
      rest -= __shfl_sync(kAllLanes, end, 31);
    }
  }
  __syncthreads();
  return drawn[0];
}

__device__ int draw(Row& row, Tokens tokens, const DeviceSamplingRow& by) {
  const bool top_k = by.top_k > 0 && by.top_k < tokens.count;
  const float least = static_cast<float>(by.min_p);
  if (!top_k && by.top_p >= 1.0) return draw_by_id(row, tokens, by.random, least);

  Order last = ~Order{0};  // of the tokens that stay
  const auto weight = [&](float logit, int id) {
    return order_of(logit, id) <= last ? row.weight(logit, 0.0f) : Weight{0};
  };
  const auto keep = [&](Order end) {
    last = end;
    if (tokens.ids == nullptr &&
        gather(row.kept, tokens, [&](float logit, int id) { return order_of(logit, id) <= last; }))
      tokens = {row.kept.logits, row.kept.ids, *row.kept.count, nullptr};
  };
  const auto sum = [&](auto measure) {
    Weight mine = 0;
    for_each(tokens, [&](float logit, int id) { mine += measure(logit, id); });
    return block_sum(mine);
  };
  if (top_k) keep(descend(row, tokens, static_cast<Weight>(by.top_k - 1), [](float, int) { return Weight{1}; }));
  if (by.top_p < 1.0) {
    const double reached = ceil(by.top_p * static_cast<double>(sum(weight)));
    keep(descend(row, tokens, reached > 1.0 ? static_cast<Weight>(reached) - 1 : 0, weight));
  }
  const auto drawn = [&](float logit, int id) {
    return order_of(logit, id) <= last ? row.weight(logit, least) : Weight{0};
  };
  const Weight all = sum(drawn);
  const Weight target = min(static_cast<Weight>(by.random * static_cast<double>(all)), all - 1);
  return static_cast<int>(descend(row, tokens, target, drawn) & 0x7fffffff);
}

// The highest logit; NaN where one is NaN or +inf, or all are -inf.
__device__ float highest_logit(const Tokens& tokens) {
  float highest = -INFINITY;
  bool bad = false;
  for_each(tokens, [&](float logit, int) {
    bad |= !(logit < INFINITY);
    highest = fmaxf(highest, logit);
  });
  highest = block_max(highest);
  return __syncthreads_or(bad) || highest == -INFINITY ? NAN : highest;
}

__device__ float penalised(float logit, const DeviceSamplingRow& by, int64_t count) {
  if (count == TokenCount::kUnseen) return logit;
  double x = static_cast<double>(logit);
  x = x > 0.0 ? x / by.repetition_penalty : x * by.repetition_penalty;
  if (count > 0) x -= by.presence_penalty + by.frequency_penalty * static_cast<double>(count);
  return static_cast<float>(fmin(fmax(x, -static_cast<double>(kMostFloat)), static_cast<double>(kMostFloat)));
}

__global__ void __launch_bounds__(kSampleThreads, 1)
    sample_kernel(int32_t* __restrict__ tokens, Rows<float> logits, const DeviceSamplingRow* __restrict__ rows,
                  SeenToken* __restrict__ seen, const uint32_t* __restrict__ allowed, int vocabulary) {
  SHARED_ARRAY(Weight, sums, [kSteps]);
  SHARED_ARRAY(float, logits_of, [2][kListed]);
  SHARED_ARRAY(int32_t, ids_of, [2][kListed]);
  SHARED_ARRAY(int, counts, [2]);
  SHARED_ARRAY(int, first, [1]);
  const int thread = static_cast<int>(threadIdx.x);
  const DeviceSamplingRow by = rows[blockIdx.x];
  float* const row_logits = logits.data + blockIdx.x * logits.stride;
  Tokens all{row_logits, nullptr, vocabulary, nullptr};

  float highest = highest_logit(all);
  if (by.first_allowed >= 0) {
    all.allowed = allowed + by.first_allowed;
    if (highest == highest) highest = highest_logit(all);
  }
  if (highest != highest) {
    if (thread == 0) tokens[blockIdx.x] = kNoToken;
    return;
  }
  const int64_t begin = by.first_seen + thread, end = by.end_seen;
  for (int64_t i = begin; i < end; i += kSampleThreads) {
    float& logit = row_logits[seen[i].token];
    seen[i].logit = logit;
    if (logit != -INFINITY) logit = penalised(logit + seen[i].bias, by, seen[i].count);
  }
  __syncthreads();
  if (by.first_seen < end) highest = highest_logit(all);

  int token;
  if (by.temperature == 0.0) {
    if (thread == 0) first[0] = vocabulary;
    __syncthreads();
    for_each(all, [&](float logit, int id) {
      if (logit == highest) atomicMin(first, id);
    });
    __syncthreads();
    token = first[0];
  } else {
    Row row{highest,
            static_cast<float>(1.0 / by.temperature),
            sums,
            {logits_of[0], ids_of[0], counts},
            {logits_of[1], ids_of[1], counts + 1}};
    token = draw(row, all, by);
  }
  if (thread == 0) tokens[blockIdx.x] = token;
  __syncthreads();  // the last reader of the penalised logits
  for (int64_t i = begin; i < end; i += kSampleThreads) row_logits[seen[i].token] = seen[i].logit;
}

// Ascending, kListed of them.
__device__ void sort(Order* orders) {
  for (int size = 2; size <= kListed; size *= 2)
    for (int distance = size / 2; distance > 0; distance /= 2) {
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < kListed / 2; i += kSampleThreads) {
        const int low = i / distance * 2 * distance + i % distance, high = low + distance;
        const bool ascending = (low & size) == 0;
        if ((orders[low] > orders[high]) == ascending) {
          const Order kept = orders[low];
          orders[low] = orders[high];
          orders[high] = kept;
        }
      }
    }
  __syncthreads();
}

__global__ void __launch_bounds__(kSampleThreads, 1)
    log_probabilities_kernel(float* __restrict__ chosen, int32_t* __restrict__ top_tokens, float* __restrict__ top,
                             Rows<const float> logits, const int32_t* __restrict__ tokens, int vocabulary, int k) {
  SHARED_ARRAY(Weight, sums, [kSteps]);
  SHARED_ARRAY(float, logits_of, [kListed]);
  SHARED_ARRAY(int32_t, ids_of, [kListed]);
  SHARED_ARRAY(int, counts, [2]);
  const int thread = static_cast<int>(threadIdx.x);
  const Tokens all{logits.data + blockIdx.x * logits.stride, nullptr, vocabulary, nullptr};
  const float highest = highest_logit(all);
  double sum = 0.0;
  for_each(all, [&](float logit, int) { sum += static_cast<double>(expf(logit - highest)); });
  const double normaliser = static_cast<double>(highest) + log(block_sum(sum));
  const auto of = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - normaliser); };
  if (thread == 0) chosen[blockIdx.x] = of(all.logits[tokens[blockIdx.x]]);

  Row row{highest, 1.0f, sums, {nullptr, nullptr, nullptr}, {logits_of, ids_of, counts}};
  int64_t at = static_cast<int64_t>(blockIdx.x) * k;
  Order before = 0;  // the first order of this round's tokens
  for (int begin = 0; begin < k; begin += kListed) {
    const int count = min(k - begin, kListed);
    const Order last = descend(row, all, static_cast<Weight>(begin + count - 1), [](float, int) { return Weight{1}; });
    __syncthreads();
    for (int i = thread; i < kListed; i += kSampleThreads) sums[i] = ~Order{0};
    if (thread == 0) counts[1] = 0;
    __syncthreads();
    for_each(all, [&](float logit, int id) {
      const Order order = order_of(logit, id);
      if (order >= before && order <= last) sums[atomicAdd(counts + 1, 1)] = order;
    });
    sort(sums);
    for (int i = thread; i < count; i += kSampleThreads) {
      top_tokens[at + begin + i] = static_cast<int32_t>(sums[i]);
      top[at + begin + i] = of(logit_of(static_cast<unsigned>(sums[i] >> 32)));
    }
    before = last + 1;
  }
}

}  // namespace

void sample(Cuda on, int32_t* tokens, Rows<float> logits, const DeviceSamplingRow* rows, SeenToken* seen,
            const uint32_t* allowed, int64_t n, int64_t vocabulary) {
  if (n == 0) return;
  LAUNCH(sample_kernel, dim3(static_cast<unsigned>(n)), dim3(kSampleThreads), 0, on.stream, tokens, logits, rows, seen,
         allowed, static_cast<int>(vocabulary));
}

void log_probabilities(Cuda on, float* chosen, int32_t* top_tokens, float* top, ConstRows<float> logits,
                       const int32_t* tokens, int64_t n, int64_t vocabulary, int64_t k) {
  if (n == 0) return;
  LAUNCH(log_probabilities_kernel, dim3(static_cast<unsigned>(n)), dim3(kSampleThreads), 0, on.stream, chosen,
         top_tokens, top, logits, tokens, static_cast<int>(vocabulary), static_cast<int>(k));
}

}  // namespace lathe::kernel
