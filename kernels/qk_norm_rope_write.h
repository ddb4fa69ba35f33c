// What lies between a layer's projections and its attention, one pass over each token: queries and keys normalised by
// head (Qwen3, Gemma 3), rotated, and keys and values written into the cache. The bits of the operations one by one.
#pragma once
#include "kernels/paged_attention.h"
#include "kernels/rope.h"

namespace lathe {

struct HeadNorm {
  const float* weight = nullptr;  // (D), of rms_norm (kernels/norm.h) over each head; null: none
  double eps = 0.0, offset = 0.0;
};
struct QkNormRope {
  HeadNorm q_norm = {}, k_norm = {};
  Rotation<float> rotation = {};
};

namespace kernel {

// q (N, Hq, D), k and v (N, Hk, D) f32 by token -> out (N, Hq + Hk, D) contiguous, the queries
// and then the keys of each token; k and v into the pages of one layer, where slot -1 is skipped.
void qk_norm_rope_write(Cpu, float* out, const CacheLayer& pages, ConstRows<float> q, ConstRows<float> k,
                        ConstRows<float> v, const int32_t* slots, const QkNormRope& steps, int64_t n, int64_t heads,
                        int64_t kv_heads, int64_t head_dim);
// head_dim up to 256; the sum of squares has an order of its own, not that of rms_norm.
void qk_norm_rope_write(Cuda, float* out, const CacheLayer& pages, ConstRows<float> q, ConstRows<float> k,
                        ConstRows<float> v, const int32_t* slots, const QkNormRope& steps, int64_t n, int64_t heads,
                        int64_t kv_heads, int64_t head_dim);

}  // namespace kernel
}  // namespace lathe
