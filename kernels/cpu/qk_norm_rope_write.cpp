// The steps of kernels/qk_norm_rope_write.h on the thread team, each by the row kernels that the operations alone use.
#include "kernels/qk_norm_rope_write.h"

#include <cstring>

#include "kernels/checks.h"
#include "kernels/cpu/dispatch.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

// y (heads, D) = x of one token after norm and rotation.
void prepare(float* y, const float* x, const HeadNorm& norm, const QkNormRope& steps, int64_t token, int64_t heads,
             int64_t head_dim) {
  const cpu::RowTable& rows = cpu::kernels().rows;
  if (norm.weight != nullptr) {
    rows.rms_norm(y, nullptr, x, head_dim, norm.weight, heads, head_dim, static_cast<float>(norm.eps),
                  static_cast<float>(norm.offset));
    x = y;
  }
  if (const Rotation<float>& r = steps.rotation; r.cos != nullptr)
    rows.rotate(y, x, r.cos_of(token), r.sin_of(token), heads, head_dim, r.rotary_dim, r.style, 1.0f);
  else if (x != y)
    std::memcpy(y, x, static_cast<size_t>(heads * head_dim) * sizeof(float));
}

}  // namespace

void qk_norm_rope_write(Cpu, float* out, const CacheLayer& pages, ConstRows<float> q, ConstRows<float> k,
                        ConstRows<float> v, const int32_t* slots, const QkNormRope& steps, int64_t n, int64_t heads,
                        int64_t kv_heads, int64_t head_dim) {
  const ProfileScope profile([&] {
    return ProfiledCall{"qk_norm_rope_write", 8 * n * (heads + 2 * kv_heads) * head_dim,
                        4 * n * (heads + kv_heads) * head_dim};
  });
  check_cache("qk_norm_rope_write", pages.dtype);
  const auto write_token = cpu::kernels().attention.floats.write_token;
  const cpu::AttentionSource cache{pages, nullptr, kv_heads, 0, head_dim, page_head_bytes(pages.dtype, head_dim), {}};
  const int64_t width = (heads + kv_heads) * head_dim;
  parallel_for(n, kGrainElements / width + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float *queries = out + i * width, *keys = queries + heads * head_dim;
      prepare(queries, q[i], steps.q_norm, steps, i, heads, head_dim);
      prepare(keys, k[i], steps.k_norm, steps, i, kv_heads, head_dim);
      if (slots[i] >= 0) write_token(cache, slots[i], keys, v[i]);
    }
  });
}

}  // namespace lathe::kernel
