// Norms, rotations and activations by rows, a template over the simd struct (simd.h). Included by kernels_<isa>.cpp.
// Sums run in 16 lanes that are added in one order, so a row's bits depend on nothing but the row.
//
// One core of a Sapphire Rapids class Xeon, g++ 12 -O3; microseconds of a token from the first-level cache, then GB/s
// read and written of 512 tokens from the second (a copy: 54):
//                                plain loops   portable       avx2           avx512
//   rms_norm, 576                0.38          0.17, 21.6     0.11, 33.1     0.08, 41.9
//   layer_norm, 576              0.72          0.26, 14.6     0.16, 22.8     0.15, 25.1
//   rope half_split, 9 x 64      0.23          0.16, 22.2     0.09, 37.7     0.07, 35.9
//   rope interleaved, 9 x 64     0.23          0.11, 33.5     0.11, 35.7     0.10, 36.9
//   gated silu, 1536             3.75          2.06,  8.8     0.81, 20.5     0.50, 28.9
//   gated gelu_tanh, 1536       19.4           2.39,  7.7     1.01, 17.3     0.61, 27.0
// gelu_exact takes 8 to 11 microseconds everywhere: its erfc is taken lane by lane.
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

  // One row each; give the scale.
  static LATHE_INLINE float rms_norm_row(float* y, const float* x, const float* w, int64_t n, float eps, float offset) {
    Floats squares = S::zero();
    over(
        n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
          const Floats v = S::load_partial(x + i, lanes);
          squares = S::fma(v, v, squares);
        });
    const float scale = 1.0f / __builtin_sqrtf(S::sum(squares) / static_cast<float>(n) + eps);
    over(
        n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
          const Floats normal = S::load_partial(x + i, lanes) * S::set1(scale);
          S::store_partial(y + i, normal * (S::load_partial(w + i, lanes) + S::set1(offset)), lanes);
        });
    return scale;
  }
  static LATHE_INLINE float layer_norm_row(float* y, float& mean, const float* x, const float* w, const float* b,
                                           int64_t n, float eps) {
    Floats sum = S::zero(), squares = S::zero();
    over(
        n, [&](int64_t i, int lanes) __attribute__((always_inline)) { sum = sum + S::load_partial(x + i, lanes); });
    const float centre = mean = S::sum(sum) / static_cast<float>(n);
    over(
        n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
          const Floats v = S::keep_lanes(S::load_partial(x + i, lanes) - S::set1(centre), 0, lanes, 0.0f);
          squares = S::fma(v, v, squares);
        });
    const float scale = 1.0f / __builtin_sqrtf(S::sum(squares) / static_cast<float>(n) + eps);
    over(
        n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
          const Floats normal = (S::load_partial(x + i, lanes) - S::set1(centre)) * S::set1(scale);
          const Floats bias = b != nullptr ? S::load_partial(b + i, lanes) : S::zero();
          S::store_partial(y + i, normal * S::load_partial(w + i, lanes) + bias, lanes);
        });
    return scale;
  }
  static LATHE_INLINE void add_row(float* sum, const float* a, const float* b, int64_t n) {
    over(
        n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
          S::store_partial(sum + i, S::load_partial(a + i, lanes) + S::load_partial(b + i, lanes), lanes);
        });
  }

  static void rms_norm(float* y, float* rstd, const float* x, int64_t ldx, const float* w, int64_t rows, int64_t n,
                       float eps, float offset) {
    for (int64_t row = 0; row < rows; ++row, x += ldx, y += n) {
      const float scale = rms_norm_row(y, x, w, n, eps, offset);
      if (rstd != nullptr) rstd[row] = scale;
    }
  }
  static void layer_norm(float* y, float* mean, float* rstd, const float* x, int64_t ldx, const float* w,
                         const float* b, int64_t rows, int64_t n, float eps) {
    for (int64_t row = 0; row < rows; ++row, x += ldx, y += n) {
      float centre;
      const float scale = layer_norm_row(y, centre, x, w, b, n, eps);
      if (mean != nullptr) mean[row] = centre;
      if (rstd != nullptr) rstd[row] = scale;
    }
  }
  static void add_rms_norm(float* sum, float* y, float* rstd, const float* a, const float* b, const float* w,
                           int64_t rows, int64_t n, float eps, float offset) {
    for (int64_t row = 0; row < rows; ++row, sum += n, y += n, a += n, b += n) {
      add_row(sum, a, b, n);
      const float scale = rms_norm_row(y, sum, w, n, eps, offset);
      if (rstd != nullptr) rstd[row] = scale;
    }
  }
  static void add_layer_norm(float* sum, float* y, float* mean, float* rstd, const float* a, const float* b,
                             const float* w, const float* bias, int64_t rows, int64_t n, float eps) {
    for (int64_t row = 0; row < rows; ++row, sum += n, y += n, a += n, b += n) {
      add_row(sum, a, b, n);
      float centre;
      const float scale = layer_norm_row(y, centre, sum, w, bias, n, eps);
      if (mean != nullptr) mean[row] = centre;
      if (rstd != nullptr) rstd[row] = scale;
    }
  }

  // The heads of one token, y = x turned; in place too.
  static void rotate(float* y, const float* x, const float* cos, const float* sin, int64_t heads, int64_t head_dim,
                     int64_t rotary_dim, RopeStyle style, float sine_sign) {
    const int64_t half = rotary_dim / 2;
    for (int64_t h = 0; h < heads; ++h, x += head_dim, y += head_dim) {
      if (style == RopeStyle::half_split) {
        over(
            half, [&](int64_t i, int lanes) __attribute__((always_inline)) {
              const Floats a = S::load_partial(x + i, lanes), b = S::load_partial(x + half + i, lanes);
              const Floats c = S::load_partial(cos + i, lanes);
              const Floats s = S::load_partial(sin + i, lanes) * S::set1(sine_sign);
              S::store_partial(y + i, a * c - b * s, lanes);
              S::store_partial(y + half + i, b * c + a * s, lanes);
            });
      } else {
        for (int64_t i = 0; i < half; ++i) {
          const float a = x[2 * i], b = x[2 * i + 1], s = sine_sign * sin[i];
          y[2 * i] = a * cos[i] - b * s;
          y[2 * i + 1] = b * cos[i] + a * s;
        }
      }
      for (int64_t i = 2 * half; i < head_dim; ++i) y[i] = x[i];
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

  static constexpr RowTable kTable{rms_norm, layer_norm, add_rms_norm, add_layer_norm, rotate, activation};
};

}  // namespace lathe::cpu
