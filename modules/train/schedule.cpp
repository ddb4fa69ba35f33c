#include "train/schedule.h"

#include <cmath>
#include <numbers>

namespace lathe {

double learning_rate(const ScheduleRecipe& s, double peak, int64_t step, int64_t steps) {
  if (step <= s.warmup_steps) return peak * static_cast<double>(step) / static_cast<double>(s.warmup_steps);
  using Name = ScheduleRecipe::Name;
  if (s.name == Name::constant) return peak;
  const int64_t begin =
      s.name == Name::warmup_stable_decay ? std::max(s.warmup_steps, steps - s.decay_steps) : s.warmup_steps;
  if (step <= begin || steps <= begin) return peak;
  const double t = static_cast<double>(step - begin) / static_cast<double>(steps - begin);
  if (s.name == Name::cosine)
    return s.final_learning_rate + (peak - s.final_learning_rate) * (1.0 + std::cos(std::numbers::pi * t)) / 2.0;
  return peak + (s.final_learning_rate - peak) * t;
}

}  // namespace lathe
