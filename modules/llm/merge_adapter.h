// A model with its adapter's changes added to its weights.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "llm/weight_source.h"

namespace lathe {

struct MergedWeights {
  WeightSource weights;  // f32 where there is a change
  bool tied = false;     // false as well where a change of the table or of the head parts the two
  std::vector<std::string> remarks;
};
// `base` are the weights of `model`, by whose parameters changes are found; the model must outlive the result. With
// `quantize` a remark says how much of the changes that block format would keep.
MergedWeights merge_adapter(CausalLM& model, WeightSource base, std::optional<DType> quantize);

}  // namespace lathe
