// Optimizer steps and sums of squares, a template over the simd struct (simd.h). Included by kernels_<isa>.cpp.
#pragma once
#include "kernels/cpu/simd.h"
#include "kernels/cpu/training.h"

namespace lathe::cpu {

template <class S>
struct OptimizerKernels {
  using Floats = typename S::Floats;

  // In 16 lanes, lane i taking every 16th element from i, which are added in ascending order. A square of an f32 is
  // exact in double, so whether it is fused into its sum makes no difference.
  static double sum_of_squares(const float* x, int64_t n) {
    double lanes[16] = {};
    const int64_t whole = n / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) LATHE_FOR(lane, 16) {
        const double v = x[i + lane];
        lanes[lane] += v * v;
      }
    for (int64_t i = whole; i < n; ++i) lanes[i - whole] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    return sum;
  }

  static void adamw(float* w, float* m, float* v, float* g, int64_t n, const AdamwFactors& f) {
    const auto step = [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const Floats d = S::load_partial(g + i, lanes) * S::set1(f.gradient_scale);
      Floats m1 = S::load_partial(m + i, lanes), v1 = S::load_partial(v + i, lanes);
      m1 = m1 + S::set1(f.one_minus_beta1) * (d - m1);
      v1 = v1 * S::set1(f.beta2) + S::set1(f.one_minus_beta2) * d * d;
      const Floats denominator = S::sqrt(v1) / S::set1(f.root_correction2) + S::set1(f.epsilon);
      const Floats decayed = S::load_partial(w + i, lanes) * S::set1(f.keep);
      S::store_partial(w + i, decayed - S::set1(f.step_size) * m1 / denominator, lanes);
      S::store_partial(m + i, m1, lanes);
      S::store_partial(v + i, v1, lanes);
      if (f.clear_gradient) S::store_partial(g + i, S::zero(), lanes);
    };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) step(i, 16);
    if (i < n) step(i, static_cast<int>(n - i));
  }

  static void sgd(float* w, float* m, float* g, int64_t n, const SgdFactors& f) {
    const auto step = [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const Floats before = S::load_partial(w + i, lanes);
      Floats d = S::load_partial(g + i, lanes) * S::set1(f.gradient_scale) + S::set1(f.weight_decay) * before;
      if (m != nullptr) {
        d = S::load_partial(m + i, lanes) * S::set1(f.momentum) + d;
        S::store_partial(m + i, d, lanes);
      }
      S::store_partial(w + i, before - S::set1(f.learning_rate) * d, lanes);
      if (f.clear_gradient) S::store_partial(g + i, S::zero(), lanes);
    };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) step(i, 16);
    if (i < n) step(i, static_cast<int>(n - i));
  }

  static constexpr OptimizerTable kTable{sum_of_squares, adamw, sgd};
};

}  // namespace lathe::cpu
