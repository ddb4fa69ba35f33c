#include "attention/attend.h"

#include <algorithm>

#include "common/observer.h"

namespace lathe {
namespace {

Tensor attend_cached(const Tensor& q, const Tensor& k, const Tensor& v, const Batch& batch, int64_t layer,
                     const AttentionOptions& options) {
  const KVCache& cache = *batch.cache;
  const PageTable& table = batch.page_tables[cache.group_of(layer)];
  const cpu::LayerPages pages = cache.layer(layer);
  const int64_t n = q.dim(0), heads = q.dim(1), head_dim = q.dim(2), kv_heads = k.dim(1);
  cpu::write_kv(pages, k.data<float>(), k.stride(), v.data<float>(), v.stride(), table.slots.data<int32_t>(), n,
                kv_heads, head_dim);

  const int32_t* contexts = batch.context_len.data<int32_t>();
  const cpu::PagedBatch paged{batch.seq_start.data<int32_t>(), contexts, table.pages.data<int32_t>(), batch.sequences(),
                              table.pages.dim(1)};
  const int64_t longest = *std::max_element(contexts, contexts + batch.sequences());
  const auto scratch_bytes = static_cast<int64_t>(cpu::paged_attention_scratch_bytes(n, heads, head_dim, longest));
  const Tensor scratch = Tensor::empty({scratch_bytes / 4 + 1}, DType::i32);
  Tensor out = Tensor::empty({n, heads, head_dim});  // (N, Hq, D)
  cpu::paged_attention(out.data<float>(), q.data<float>(), q.stride(), pages, paged, heads, kv_heads, head_dim, options,
                       scratch.raw());
  return out;
}

}  // namespace

Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Batch& batch, int64_t layer,
              const AttentionOptions& options) {
  if (batch.cache != nullptr) return attend_cached(q, k, v, batch, layer, options);
  if (Observer* observer = Observer::current(); observer != nullptr && observer->wants(tap_path("probabilities")))
    tap("probabilities", attention_probabilities(q, k, batch.seq_start, options));
  return attention(q, k, v, batch.seq_start, options);
}

}  // namespace lathe
