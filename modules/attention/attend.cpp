#include "attention/attend.h"

#include <algorithm>

#include "autograd/convert.h"
#include "common/observer.h"
#include "kernels/prepare_heads.h"

namespace lathe {
namespace {

// The steps as operations of their own, each seen by an observer.
Tensor step_by_step(Tensor x, const RmsNorm* norm, const RopeAngles* angles, const char* normed, const char* rotated) {
  if (norm != nullptr) {
    x = (*norm)(x);
    tap(normed, x);
  }
  if (angles != nullptr) {
    x = rope(x, *angles);
    tap(rotated, x);
  }
  return x;
}

// The steps and the write in one pass; gives the queries (N, Hq, D), token by token before the keys.
Tensor all_at_once(const Tensor& q, const Tensor& k, const Tensor& v, const HeadSteps& steps,
                   const cpu::LayerPages& pages, const Tensor& slots) {
  const int64_t n = q.dim(0), heads = q.dim(1), head_dim = q.dim(2), kv_heads = k.dim(1);
  Tensor q_weight, k_weight;  // keep converted values alive
  const auto head_norm = [&](const RmsNorm* norm, Tensor& weight) -> cpu::HeadNorm {
    if (norm == nullptr) return {};
    weight = convert(norm->weight.value, DType::f32);
    check(weight.shape() == Shape{head_dim}, "attention", "a norm over heads of {} has the weight {}", head_dim,
          weight);
    return {weight.data<float>(), static_cast<float>(norm->eps), static_cast<float>(norm->offset)};
  };
  cpu::HeadSteps in_kernel{head_norm(steps.q_norm, q_weight), head_norm(steps.k_norm, k_weight)};
  if (steps.rope != nullptr) {
    const auto& [cos, sin, style] = *steps.rope;
    check(cos.rank() == 2 && cos.dim(0) == n && 2 * cos.dim(1) <= head_dim, "attention",
          "angles must be (N, R / 2) with R <= D, found {}, q {}", cos, q);
    in_kernel.cos = cos.data<float>();
    in_kernel.sin = sin.data<float>();
    in_kernel.rotary_dim = 2 * cos.dim(1);
    in_kernel.style = style;
  }
  const Tensor heads_out = Tensor::empty({n, (heads + kv_heads) * head_dim});  // (N, (Hq + Hk) D)
  cpu::prepare_heads(heads_out.data<float>(), pages, q.data<float>(), q.stride(), k.data<float>(), k.stride(),
                     v.data<float>(), v.stride(), slots.data<int32_t>(), in_kernel, n, heads, kv_heads, head_dim);
  return heads_out.column_range(0, heads * head_dim).view({n, heads, head_dim});
}

Tensor over_pages(const Tensor& q, const cpu::LayerPages& pages, int64_t kv_heads, const PageTable& table,
                  const Batch& batch, const AttentionOptions& options) {
  const int64_t n = q.dim(0), heads = q.dim(1), head_dim = q.dim(2);
  const int32_t* contexts = batch.context_len.data<int32_t>();
  const cpu::PagedBatch paged{batch.seq_start.data<int32_t>(), contexts, table.pages.data<int32_t>(), batch.sequences(),
                              table.pages.dim(1)};
  const int64_t longest = *std::max_element(contexts, contexts + batch.sequences());
  const auto scratch_bytes =
      static_cast<int64_t>(cpu::paged_attention_scratch_bytes(pages.dtype, n, heads, head_dim, longest));
  const Tensor scratch = Tensor::empty({scratch_bytes / 4 + 1}, DType::i32);
  Tensor out = Tensor::empty({n, heads, head_dim});  // (N, Hq, D)
  cpu::paged_attention(out.data<float>(), q.data<float>(), q.stride(), pages, paged, heads, kv_heads, head_dim, options,
                       scratch.raw());
  return out;
}

}  // namespace

Tensor attend(const Tensor& q_, const Tensor& k_, const Tensor& v, const HeadSteps& steps, const Batch& batch,
              int64_t layer, const AttentionOptions& options) {
  const bool cached = batch.cache != nullptr;
  const cpu::LayerPages pages = cached ? batch.cache->layer(layer) : cpu::LayerPages{};
  const PageTable* table = cached ? &batch.page_tables[batch.cache->group_of(layer)] : nullptr;
  if (cached && Observer::current() == nullptr)
    return over_pages(all_at_once(q_, k_, v, steps, pages, table->slots), pages, k_.dim(1), *table, batch, options);

  const Tensor q = step_by_step(q_, steps.q_norm, steps.rope, "q_norm", "q_rope");
  const Tensor k = step_by_step(k_, steps.k_norm, steps.rope, "k_norm", "k_rope");
  if (cached) {
    cpu::write_kv(pages, k.data<float>(), k.stride(), v.data<float>(), v.stride(), table->slots.data<int32_t>(),
                  k.dim(0), k.dim(1), k.dim(2));
    return over_pages(q, pages, k.dim(1), *table, batch, options);
  }
  if (Observer* observer = Observer::current(); observer != nullptr && observer->wants(tap_path("probabilities")))
    tap("probabilities", attention_probabilities(q, k, batch.seq_start, options));
  return attention(q, k, v, batch.seq_start, options);
}

}  // namespace lathe
