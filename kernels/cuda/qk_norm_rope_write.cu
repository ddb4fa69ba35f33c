// The steps of kernels/qk_norm_rope_write.h, a warp a token and head: a head is read once, normalised and turned in
// shared memory, and written to its place in `out`, in the cache or in both.
//
// The ladder (Qwen3-0.6B, 16 query and 8 key-value heads of 128, bf16 cache):
//   version 1 (this)   32 KB a token: 16 read, 12 to `out`, 4 to the cache; decode of 256 sequences 8.4 MB, limit 2.8
//                      us at 3.0 TB/s; prefill of 8,192 tokens 89 us. Not measured yet: no GPU has run it.
#include "kernels/cuda/cache_page.h"
#include "kernels/qk_norm_rope_write.h"

namespace lathe::kernel {
namespace {
using namespace head_tiles;

constexpr int kHeadWarps = 4;

struct PrepareCall {
  float* out;
  CacheLayer pages;
  Rows<const float> q, k, v;
  const int32_t* slots;
  QkNormRope steps;
  int64_t n;
  int heads, kv_heads, head_dim;
  int64_t head_bytes;
};

__device__ __forceinline__ float turned(const float* x, int d, const Rotation<float>& r, int64_t token) {
  const int half = static_cast<int>(r.rotary_dim / 2);
  if (r.cos == nullptr || d >= 2 * half) return x[d];
  const bool split = r.style == RopeStyle::half_split;
  const int pair = split ? d % half : d / 2;
  const bool first = split ? d < half : d % 2 == 0;
  const int other = split ? (first ? d + half : d - half) : d ^ 1;
  const int64_t angle = static_cast<int64_t>(r.rows[token]) * half + pair;
  return first ? x[d] * r.cos[angle] - x[other] * r.sin[angle] : x[d] * r.cos[angle] + x[other] * r.sin[angle];
}

__global__ void __launch_bounds__(kHeadWarps * 32) prepare_heads_kernel(PrepareCall call) {
  SHARED_ARRAY(float, read, [kHeadWarps][kMaxHeadDim]);
  SHARED_ARRAY(float, made, [kHeadWarps][kMaxHeadDim]);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int dim = call.head_dim, heads = call.heads + 2 * call.kv_heads;  // queries, keys, values
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kHeadWarps + warp;
  if (unit >= call.n * heads) return;
  const int64_t token = unit / heads, slot = call.slots[token];
  const int head = static_cast<int>(unit % heads), kv_head = (head - call.heads) % call.kv_heads;
  const bool is_query = head < call.heads, is_value = head >= call.heads + call.kv_heads;
  const int64_t page = slot / kPageTokens * call.pages.page_stride + kv_head * call.head_bytes;
  const int offset = static_cast<int>(slot % kPageTokens);
  if (is_value) {
    if (slot >= 0)
      write_head(static_cast<uint8_t*>(call.pages.values) + page, call.pages.dtype, offset,
                 call.v.data + token * call.v.stride + kv_head * dim, dim);
    return;
  }
  const float* const from =
      is_query ? call.q.data + token * call.q.stride + head * dim : call.k.data + token * call.k.stride + kv_head * dim;
  const HeadNorm& norm = is_query ? call.steps.q_norm : call.steps.k_norm;
  float* const x = read[warp];
  float squares = 0.0f;
  for (int d = lane; d < dim; d += 32) {
    x[d] = from[d];
    squares = fmaf(x[d], x[d], squares);
  }
  if (norm.weight != nullptr) {
    const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(dim) + static_cast<float>(norm.eps));
    for (int d = lane; d < dim; d += 32) x[d] = x[d] * scale * (norm.weight[d] + static_cast<float>(norm.offset));
  }
  __syncwarp();
  float* const to = call.out + (token * (call.heads + call.kv_heads) + head) * dim;
  for (int d = lane; d < dim; d += 32) to[d] = made[warp][d] = turned(x, d, call.steps.rotation, token);
  if (is_query || slot < 0) return;
  __syncwarp();
  write_head(static_cast<uint8_t*>(call.pages.keys) + page, call.pages.dtype, offset, made[warp], dim);
}

}  // namespace

void qk_norm_rope_write(Cuda on, float* out, const CacheLayer& pages, ConstRows<float> q, ConstRows<float> k,
                        ConstRows<float> v, const int32_t* slots, const QkNormRope& steps, int64_t n, int64_t heads,
                        int64_t kv_heads, int64_t head_dim) {
  check_cache("qk_norm_rope_write", pages.dtype);
  check_cuda_head_dim("qk_norm_rope_write", head_dim);
  if (n == 0) return;
  const PrepareCall call{out,
                         pages,
                         q,
                         k,
                         v,
                         slots,
                         steps,
                         n,
                         static_cast<int>(heads),
                         static_cast<int>(kv_heads),
                         static_cast<int>(head_dim),
                         page_head_bytes(pages.dtype, head_dim)};
  LAUNCH(prepare_heads_kernel, dim3(blocks_of(n * (heads + 2 * kv_heads), kHeadWarps)), dim3(kHeadWarps * 32), 0,
         on.stream, call);
}

}  // namespace lathe::kernel
