// The learning rate of each step.
#pragma once
#include <cstdint>

#include "train/recipe.h"

namespace lathe {

// Of optimizer step `step`, counted from 1, of `steps`. The first warmup_steps rise in a line from peak / warmup_steps
// to the peak; what follows ends at final_learning_rate with the last step:
//   cosine   final + (peak - final) (1 + cos(pi t)) / 2, t the share of the steps after the warm-up (Loshchilov and
//            Hutter 2017, eq. 5)
//   linear   peak + (final - peak) t
//   constant the peak
//   warmup_stable_decay  the peak, then in a line to the end over the last decay_steps (Hu et al. 2024, MiniCPM)
double learning_rate(const ScheduleRecipe& schedule, double peak, int64_t step, int64_t steps);

}  // namespace lathe
