// Norms and activations by rows, a template over the simd struct (simd.h). Included by kernels_<isa>.cpp.
// Sums run in 16 lanes that are added in one order, so a row's bits depend on nothing but the row.
#pragma once
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/vector_math.h"

namespace lathe::cpu {

template <class S>
struct RowKernels {
  using Floats = typename S::Floats;

  // f(offset, lanes) over n elements: whole vectors, then what is left.
  template <class F>
  static LATHE_INLINE void over(int64_t n, F f) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) f(i, 16);
    if (i < n) f(i, static_cast<int>(n - i));
  }

  static void rms_norm(float* y, float* rstd, const float* x, int64_t ldx, const float* w, int64_t rows, int64_t n,
                       float eps, float offset) {
    for (int64_t row = 0; row < rows; ++row, x += ldx, y += n) {
      Floats squares = S::zero();
      over(
          n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            const Floats v = S::load_partial(x + i, lanes);
            squares = S::fma(v, v, squares);
          });
      const float scale = 1.0f / __builtin_sqrtf(S::sum(squares) / static_cast<float>(n) + eps);
      if (rstd != nullptr) rstd[row] = scale;
      over(
          n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            const Floats normal = S::load_partial(x + i, lanes) * S::set1(scale);
            S::store_partial(y + i, normal * (S::load_partial(w + i, lanes) + S::set1(offset)), lanes);
          });
    }
  }

  static void layer_norm(float* y, float* mean, float* rstd, const float* x, int64_t ldx, const float* w,
                         const float* b, int64_t rows, int64_t n, float eps) {
    for (int64_t row = 0; row < rows; ++row, x += ldx, y += n) {
      Floats sum = S::zero(), squares = S::zero();
      over(
          n, [&](int64_t i, int lanes) __attribute__((always_inline)) { sum = sum + S::load_partial(x + i, lanes); });
      const float centre = S::sum(sum) / static_cast<float>(n);
      over(
          n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            const Floats v = S::keep_lanes(S::load_partial(x + i, lanes) - S::set1(centre), 0, lanes, 0.0f);
            squares = S::fma(v, v, squares);
          });
      const float scale = 1.0f / __builtin_sqrtf(S::sum(squares) / static_cast<float>(n) + eps);
      if (mean != nullptr) mean[row] = centre;
      if (rstd != nullptr) rstd[row] = scale;
      over(
          n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            const Floats normal = (S::load_partial(x + i, lanes) - S::set1(centre)) * S::set1(scale);
            const Floats bias = b != nullptr ? S::load_partial(b + i, lanes) : S::zero();
            S::store_partial(y + i, normal * S::load_partial(w + i, lanes) + bias, lanes);
          });
    }
  }

  // y = f(gate), times `up` where that is not null.
  template <Activation kActivation>
  static void activate_rows(float* y, const float* gate, int64_t ldg, const float* up, int64_t ldu, int64_t rows,
                            int64_t n) {
    for (int64_t row = 0; row < rows; ++row, gate += ldg, y += n) {
      over(
          n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            Floats v = VectorMath<S>::template activate<kActivation>(S::load_partial(gate + i, lanes));
            if (up != nullptr) v = v * S::load_partial(up + row * ldu + i, lanes);
            S::store_partial(y + i, v, lanes);
          });
    }
  }
  static void activation(float* y, const float* gate, int64_t ldg, const float* up, int64_t ldu, int64_t rows,
                         int64_t n, Activation f) {
    switch (f) {
      case Activation::silu: return activate_rows<Activation::silu>(y, gate, ldg, up, ldu, rows, n);
      case Activation::gelu_exact: return activate_rows<Activation::gelu_exact>(y, gate, ldg, up, ldu, rows, n);
      case Activation::gelu_tanh: return activate_rows<Activation::gelu_tanh>(y, gate, ldg, up, ldu, rows, n);
    }
  }

  static constexpr RowTable kTable{rms_norm, layer_norm, activation};
};

}  // namespace lathe::cpu
