// What lies between a layer's projections and its attention, one pass over each token: queries and keys normalised by
// head (Qwen3, Gemma 3), rotated, and keys and values written into the cache. The bits of the operations one by one.
#pragma once
#include "kernels/paged_attention.h"
#include "kernels/rope.h"

namespace lathe::cpu {

struct HeadNorm {
  const float* weight = nullptr;  // (D), of rms_norm (kernels/norm.h) over each head; null: none
  float eps = 0.0f, offset = 0.0f;
};
struct HeadSteps {
  HeadNorm q_norm = {}, k_norm = {};
  const float* cos = nullptr;  // (N, R / 2), as kernels/rope.h takes them; null: no rotation
  const float* sin = nullptr;
  int64_t rotary_dim = 0;
  RopeStyle style = RopeStyle::half_split;
};

// q (N, Hq, D), k and v (N, Hk, D) f32 with token strides ldq, ldk, ldv -> out (N, Hq + Hk, D) contiguous, the queries
// and then the keys of each token; k and v into the pages of one layer, where slot -1 is skipped.
void prepare_heads(float* out, const LayerPages& pages, const float* q, int64_t ldq, const float* k, int64_t ldk,
                   const float* v, int64_t ldv, const int32_t* slots, const HeadSteps& steps, int64_t n, int64_t heads,
                   int64_t kv_heads, int64_t head_dim);

}  // namespace lathe::cpu
