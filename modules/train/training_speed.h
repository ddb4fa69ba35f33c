// How fast training steps are.
#pragma once
#include <cstdint>
#include <vector>

#include "tensor/tensor.h"
#include "train/recipe.h"

namespace lathe {

class CausalLM;

// Operations a token of forward and backward: 6 for each weight that multiplies, 4 where it is frozen, and causal
// attention (Kaplan et al. 2020, table 1; Chowdhery et al. 2022, appendix B).
int64_t training_operations(CausalLM& model, int64_t context);

struct TrainingSpeed {
  std::vector<double> step_seconds;
  int64_t tokens_a_step = 0;
  int64_t parameters = 0;
  int64_t operations_a_token = 0;
};
// Whole steps on `device`, clipping and optimizer included, after an untimed one. Where the recipe names no data, on
// random ids.
TrainingSpeed measure_training_speed(const Recipe& recipe, int64_t steps, Device device = {});

}  // namespace lathe
