// The one seam between a model and how its attention is computed: packed training attention, or the paged cache.
#pragma once
#include <optional>

#include "attention/batch.h"
#include "common/norm.h"

namespace lathe {

// q (N, Hq, D), k and v (N, Hk, D) as projected, rows may be strided -> (N, Hq, D). q_norm and k_norm are over each
// head, weight (D) (Qwen3, Gemma 3); rope null: no rotation. With a cache: writes k and v into the layer's pages, then
// attends over everything that the page table names. Without an observer, norm, rotation and write are one pass over
// each token; an observer sees "q_norm", "k_norm", "q_rope" and "k_rope" of the operations one by one, whose bits are
// the same.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<RmsNorm>& q_norm,
              const std::optional<RmsNorm>& k_norm, const RopeAngles* rope, const Batch& batch, int64_t layer,
              const AttentionOptions& options);

}  // namespace lathe
