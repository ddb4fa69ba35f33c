// Which attention computes a layer: over the batch's own tokens, or over the pages of a cache.
#include "attention/attend.h"

#include "common/observer.h"

namespace lathe {
namespace {

// Norm and rotation as operations of their own, each seen by an observer.
Tensor unfused(Tensor x, const std::optional<RmsNorm>& norm, const RopeAngles* angles, const char* normed,
               const char* rotated) {
  if (norm) x = tap(normed, (*norm)(x));
  if (angles != nullptr) x = tap(rotated, rope(x, *angles));
  return x;
}

HeadSteps::Norm head_norm(const std::optional<RmsNorm>& norm) {
  return norm ? HeadSteps::Norm{&norm->weight, norm->eps, norm->offset} : HeadSteps::Norm{};
}

}  // namespace

Tensor attend(const Tensor& q_, const Tensor& k_, const Tensor& v, const std::optional<RmsNorm>& q_norm,
              const std::optional<RmsNorm>& k_norm, const RopeAngles* rope, const Batch& batch, int64_t layer,
              const AttentionOptions& options) {
  const auto over_pages = [&](const Tensor& q, const CacheLayer& cache, const PageTable& table) {
    return paged_attention(q, cache, k_.dim(1),
                           {table.pages, batch.seq_start, batch.context_len, batch.sizes.longest_context}, options);
  };
  if (batch.cache != nullptr && Observer::current() == nullptr) {
    const CacheLayer cache = batch.cache->layer(layer);
    const PageTable& table = batch.page_table(layer);
    const HeadSteps steps{head_norm(q_norm), head_norm(k_norm), rope};
    return over_pages(qk_norm_rope_write(q_, k_, v, steps, cache, table.slots), cache, table);
  }
  const Tensor q = unfused(q_, q_norm, rope, "q_norm", "q_rope");  // (N, Hq, D)
  const Tensor k = unfused(k_, k_norm, rope, "k_norm", "k_rope");  // (N, Hk, D)
  if (batch.cache != nullptr) {
    const CacheLayer cache = batch.cache->layer(layer);
    const PageTable& table = batch.page_table(layer);
    write_kv(k, v, cache, table.slots);
    return over_pages(q, cache, table);
  }
  if (Observer* observer = Observer::current(); observer != nullptr && observer->wants(tap_path("probabilities")))
    tap("probabilities", attention_probabilities(q, k, batch.seq_start, batch.sizes.most_new_tokens, options));
  return attention(q, k, v, batch.seq_start, options);
}

}  // namespace lathe
