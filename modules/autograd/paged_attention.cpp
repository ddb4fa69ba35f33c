// Attention over the paged cache, and what lies between the projections and it. Inference alone: nothing is recorded.
#include "kernels/paged_attention.h"

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "kernels/qk_norm_rope_write.h"

namespace lathe {
namespace {

void check_heads(const char* operation, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& slots) {
  check(q.rank() == 3 && k.rank() == 3 && k.dim(0) == q.dim(0) && k.dim(2) == q.dim(2) && k.shape() == v.shape() &&
            q.dtype() == DType::f32 && k.dtype() == DType::f32 && v.dtype() == DType::f32,
        operation, "needs q (N, Hq, D), k and v (N, Hk, D) in f32, found q {}, k {}, v {}", q, k, v);
  check(slots.rank() == 1 && slots.dim(0) == k.dim(0) && slots.dtype() == DType::i32, operation,
        "slots must be (N) i32, found {}", slots);
}

}  // namespace

void write_kv(const Tensor& k, const Tensor& v, const CacheLayer& cache, const Tensor& slots) {
  check_heads("write_kv", k, k, v, slots);
  dispatch_device("write_kv", k, [&](auto on) {
    kernel::write_kv(on, cache, tokens_of<float>(k), tokens_of<float>(v), slots.data<int32_t>(), k.dim(0), k.dim(1),
                     k.dim(2));
  });
}

Tensor qk_norm_rope_write(const Tensor& q, const Tensor& k, const Tensor& v, const HeadSteps& steps,
                          const CacheLayer& cache, const Tensor& slots) {
  check_heads("qk_norm_rope_write", q, k, v, slots);
  const int64_t n = q.dim(0), heads = q.dim(1), head_dim = q.dim(2), kv_heads = k.dim(1);
  Tensor q_weight, k_weight;  // (D)
  const auto head_norm = [&](const HeadSteps::Norm& norm, Tensor& weight) -> HeadNorm {
    if (norm.weight == nullptr) return {};
    check(norm.weight->shape == Shape{head_dim}, "qk_norm_rope_write", "a norm over heads of {} has the weight {}",
          head_dim, norm.weight->shape);
    weight = values_of(*norm.weight, DType::f32, "qk_norm_rope_write");
    return {weight.data<float>(), norm.eps, norm.offset};
  };
  QkNormRope in_kernel{head_norm(steps.q_norm, q_weight), head_norm(steps.k_norm, k_weight)};
  if (steps.rope != nullptr) {
    check_angles("qk_norm_rope_write", *steps.rope, q);
    in_kernel.rotation = rotation_of<float>(*steps.rope);
  }
  const Tensor both = Tensor::empty({n, (heads + kv_heads) * head_dim}, DType::f32, q.device());  // (N, (Hq + Hk) D)
  dispatch_device("qk_norm_rope_write", q, [&](auto on) {
    kernel::qk_norm_rope_write(on, both.data<float>(), cache, tokens_of<float>(q), tokens_of<float>(k),
                               tokens_of<float>(v), slots.data<int32_t>(), in_kernel, n, heads, kv_heads, head_dim);
  });
  return both.column_range(0, heads * head_dim).view({n, heads, head_dim});
}

Tensor paged_attention(const Tensor& q, const CacheLayer& cache, int64_t kv_heads, const PagedSequences& sequences,
                       const AttentionOptions& options) {
  check(q.rank() == 3 && q.dtype() == DType::f32, "paged_attention", "needs q (N, Hq, D) in f32, found {}", q);
  const int64_t n = q.dim(0), heads = q.dim(1), head_dim = q.dim(2);
  const PagedBatch batch{sequences.seq_start.data<int32_t>(),
                         sequences.context_len.data<int32_t>(),
                         sequences.pages.data<int32_t>(),
                         sequences.context_len.dim(0),
                         sequences.pages.dim(1),
                         n,
                         sequences.longest_context};
  Tensor y = Tensor::empty({n, heads, head_dim}, DType::f32, q.device());  // (N, Hq, D)
  const int64_t bytes = dispatch_size("paged_attention", q, [&](auto on) {
    return kernel::paged_attention_scratch_bytes(on, cache.dtype, n, heads, head_dim, sequences.longest_context);
  });
  const Tensor scratch = Tensor::empty({bytes / 4 + 1}, DType::i32, q.device());
  dispatch_device("paged_attention", q, [&](auto on) {
    kernel::paged_attention(on, y.data<float>(), tokens_of<float>(q), cache, batch, heads, kv_heads, head_dim,
                            score_options(options), scratch.raw());
  });
  return y;
}

}  // namespace lathe
