// The one seam between a model and how its attention is computed: packed training attention, or the paged cache.
#pragma once
#include "attention/batch.h"

namespace lathe {

// q (N, Hq, D), k and v (N, Hk, D), rows may be strided -> (N, Hq, D).
// With a cache: writes k and v into the layer's pages, then attends over everything that the page table names.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Batch& batch, int64_t layer,
              const AttentionOptions& options);

}  // namespace lathe
