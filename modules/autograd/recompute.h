// A part of a model whose activations are not kept for the backward pass but computed again in it (Chen et al. 2016,
// "Training deep nets with sublinear memory cost").
#pragma once
#include <functional>
#include <vector>

#include "tensor/tensor.h"

namespace lathe {

// What a part makes: its output, and further tensors that a loss may look at.
struct RecomputedOutputs {
  Tensor y;
  std::vector<Tensor> more;
};
// f(x), recorded as one entry that keeps x alone: the backward runs f again under a tape of its own, so f must give the
// same bits each time it is called and what it reads must live as long as the tape. Where no tape is active: f(x).
RecomputedOutputs recomputed(const Tensor& x, std::function<RecomputedOutputs(const Tensor& x)> f);

}  // namespace lathe
