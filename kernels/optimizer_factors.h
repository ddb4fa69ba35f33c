// The steps of kernels/optimizer.h as kernels take them, in f32. Static: translation units of an instruction set
// include it.
#pragma once
#include <cmath>

#include "kernels/optimizer.h"

namespace lathe {

struct AdamwFactors {
  float keep;  // of a weight that decays
  float one_minus_beta1, beta2, one_minus_beta2, root_correction2, epsilon, step_size, gradient_scale;
  bool clear_gradient;
};
struct SgdFactors {
  float learning_rate, momentum, weight_decay, gradient_scale;
  bool clear_gradient;
};

static inline AdamwFactors factors_of(const AdamwStep& step) {
  const auto f32 = [](double x) { return static_cast<float>(x); };
  return {.keep = f32(1 - step.learning_rate * step.weight_decay),
          .one_minus_beta1 = f32(1 - step.beta1),
          .beta2 = f32(step.beta2),
          .one_minus_beta2 = f32(1 - step.beta2),
          .root_correction2 = f32(std::sqrt(step.bias_correction2)),
          .epsilon = f32(step.epsilon),
          .step_size = f32(step.learning_rate / step.bias_correction1),
          .gradient_scale = f32(step.gradient_scale),
          .clear_gradient = step.clear_gradient};
}
static inline SgdFactors factors_of(const SgdStep& step) {
  const auto f32 = [](double x) { return static_cast<float>(x); };
  return {.learning_rate = f32(step.learning_rate),
          .momentum = f32(step.momentum),
          .weight_decay = f32(step.weight_decay),
          .gradient_scale = f32(step.gradient_scale),
          .clear_gradient = step.clear_gradient};
}

}  // namespace lathe
