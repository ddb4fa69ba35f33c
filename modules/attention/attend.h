// The one seam between a model and how its attention is computed: packed training attention, or the paged cache.
#pragma once
#include <optional>

#include "attention/batch.h"
#include "common/norm.h"

namespace lathe {

// Norm and rotation of queries and keys.
struct HeadSteps {
  const RmsNorm* q_norm = nullptr;   // over each head (Qwen3, Gemma 3), weight (D); null: none
  const RmsNorm* k_norm = nullptr;   //
  const RopeAngles* rope = nullptr;  // null: none
};

// q (N, Hq, D), k and v (N, Hk, D) as projected, rows may be strided -> (N, Hq, D).
// With a cache: writes k and v into the layer's pages, then attends over everything that the page table names. Where
// nobody watches, the steps and the write are one pass over each token; an observer sees "q_norm", "k_norm", "q_rope"
// and "k_rope" of the operations one by one, whose bits are the same.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const HeadSteps& steps, const Batch& batch,
              int64_t layer, const AttentionOptions& options);

}  // namespace lathe
