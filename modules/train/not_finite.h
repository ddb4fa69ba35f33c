// Where numbers stopped being finite: what a skipped step says of its reason.
#pragma once
#include <string>

#include "attention/batch.h"
#include "llm/causal_lm.h"

namespace lathe {

// "nan at element 5", counted from `first`; empty where all elements (f32, on the host) are finite.
std::string first_not_finite(const Tensor& x, int64_t first = 0);
// The first activation of a forward that is not finite, by the name of its tap (docs/shapes.md) and its element; empty
// where all are.
std::string first_not_finite_activation(const CausalLM& model, const Batch& batch);

}  // namespace lathe
