// Where numbers stopped being finite: what a skipped step says of its reason.
#pragma once
#include <string>

#include "attention/batch.h"
#include "llm/causal_lm.h"

namespace lathe {

// The first activation of a forward that is not finite, by the name of its tap (docs/shapes.md) and its element; empty
// where all are.
std::string first_not_finite_activation(const CausalLM& model, const Batch& batch);

}  // namespace lathe
