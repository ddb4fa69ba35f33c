// Optimizer steps on the thread team: element by element, bound by memory. The sum of squares is cut into pieces by its
// length alone, whose sums are added in ascending order.
#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/training.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {

double sum_of_squares(Cpu, const float* x, int64_t n) {
  const ProfileScope profile([&] { return ProfiledCall{"sum_of_squares", 4 * n, 2 * n}; });
  constexpr int64_t kPieces = 256, kLeast = 4096;
  const int64_t piece = std::max(kLeast, (n + kPieces - 1) / kPieces), pieces = (n + piece - 1) / piece;
  double sums[kPieces];
  const auto kernel = cpu::training_kernels().optimizer.sum_of_squares;
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sums[i] = kernel(x + i * piece, std::min(piece, n - i * piece));
  });
  double sum = 0;
  for (int64_t i = 0; i < pieces; ++i) sum += sums[i];
  return sum;
}

void adamw_step(Cpu, float* w, float* m, float* v, float* g, int64_t n, const AdamwStep& step) {
  const ProfileScope profile([&] { return ProfiledCall{"adamw_step", (step.clear_gradient ? 32 : 28) * n, 14 * n}; });
  const auto f32 = [](double x) { return static_cast<float>(x); };
  const cpu::AdamwFactors factors{.keep = f32(1 - step.learning_rate * step.weight_decay),
                                  .one_minus_beta1 = f32(1 - step.beta1),
                                  .beta2 = f32(step.beta2),
                                  .one_minus_beta2 = f32(1 - step.beta2),
                                  .root_correction2 = f32(std::sqrt(step.bias_correction2)),
                                  .epsilon = f32(step.epsilon),
                                  .step_size = f32(step.learning_rate / step.bias_correction1),
                                  .gradient_scale = f32(step.gradient_scale),
                                  .clear_gradient = step.clear_gradient};
  const auto kernel = cpu::training_kernels().optimizer.adamw;
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    kernel(w + begin, m + begin, v + begin, g + begin, end - begin, factors);
  });
}

void sgd_step(Cpu, float* w, float* m, float* g, int64_t n, const SgdStep& step) {
  const ProfileScope profile([&] {
    return ProfiledCall{"sgd_step", (m != nullptr ? 20 : 12) * n + (step.clear_gradient ? 4 * n : 0), 6 * n};
  });
  const auto f32 = [](double x) { return static_cast<float>(x); };
  const cpu::SgdFactors factors{.learning_rate = f32(step.learning_rate),
                                .momentum = f32(step.momentum),
                                .weight_decay = f32(step.weight_decay),
                                .gradient_scale = f32(step.gradient_scale),
                                .clear_gradient = step.clear_gradient};
  const auto kernel = cpu::training_kernels().optimizer.sgd;
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    kernel(w + begin, m != nullptr ? m + begin : nullptr, g + begin, end - begin, factors);
  });
}

}  // namespace lathe::kernel
