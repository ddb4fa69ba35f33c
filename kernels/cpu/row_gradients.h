// Gradients of norms and activations by rows, and rows of a softmax, a template over the simd struct (simd.h). Included
// by training_<isa>.cpp. A row is read twice while it is in the first-level cache, whatever is computed of it.
#pragma once
#include "kernels/cpu/training.h"
#include "kernels/cpu/vector_math.h"

namespace lathe::cpu {

template <class S>
struct RowGradients {
  using Floats = typename S::Floats;

  // f(offset, lanes) over n elements: whole vectors, then what is left.
  template <class F>
  static LATHE_INLINE void over(int64_t n, F f) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) f(i, 16);
    if (i < n) f(i, static_cast<int>(n - i));
  }
  static LATHE_INLINE Floats load(const float* p, int lanes) {
    return lanes == 16 ? S::load(p) : S::load_partial(p, lanes);
  }
  static LATHE_INLINE void store(float* p, Floats v, int lanes) {
    if (lanes == 16)
      S::store(p, v);
    else
      S::store_partial(p, v, lanes);
  }
  static LATHE_INLINE void add_to(float* sums, Floats v, int64_t i, int lanes) {
    if (sums != nullptr) store(sums + i, load(sums + i, lanes) + v, lanes);
  }

  // ---- norms: dx = or += ..., the rows' shares added to dw and db ----

  static void rms_norm(const NormGradients& to, const float* dy, const NormRows& x, int64_t rows, int64_t n) {
    const Floats offset = S::set1(x.offset);
    for (int64_t row = 0; row < rows; ++row) {
      const float *in = x.x + row * x.ldx, *d = dy + row * n;
      const Floats rstd = S::set1(x.rstd[row]);
      Floats dots = S::zero();
      if (to.dx != nullptr)
        over(
            n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
              dots = S::fma(load(d + i, lanes) * (load(x.w + i, lanes) + offset), load(in + i, lanes), dots);
            });
      const Floats mean = S::set1(S::sum(dots) * x.rstd[row] / static_cast<float>(n));
      over(
          n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            const Floats dy_i = load(d + i, lanes), z = load(in + i, lanes) * rstd;
            add_to(to.dw, dy_i * z, i, lanes);
            if (to.dx != nullptr)
              put(to, row * n + i, rstd * (dy_i * (load(x.w + i, lanes) + offset) - z * mean), lanes);
          });
    }
  }

  static void layer_norm(const NormGradients& to, const float* dy, const NormRows& x, int64_t rows, int64_t n) {
    for (int64_t row = 0; row < rows; ++row) {
      const float *in = x.x + row * x.ldx, *d = dy + row * n;
      const Floats rstd = S::set1(x.rstd[row]), mean = S::set1(x.mean[row]);
      Floats sums = S::zero(), dots = S::zero();
      if (to.dx != nullptr)
        over(
            n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
              const Floats g = load(d + i, lanes) * load(x.w + i, lanes);
              sums = sums + g;
              dots = S::fma(g, load(in + i, lanes) - mean, dots);
            });
      const Floats mean_g = S::set1(S::sum(sums) / static_cast<float>(n));
      const Floats mean_gz = S::set1(S::sum(dots) * x.rstd[row] / static_cast<float>(n));
      over(
          n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            const Floats dy_i = load(d + i, lanes), z = (load(in + i, lanes) - mean) * rstd;
            add_to(to.dw, dy_i * z, i, lanes);
            add_to(to.db, dy_i, i, lanes);
            if (to.dx != nullptr)
              put(to, row * n + i, rstd * (dy_i * load(x.w + i, lanes) - mean_g - z * mean_gz), lanes);
          });
    }
  }
  static LATHE_INLINE void put(const NormGradients& to, int64_t at, Floats v, int lanes) {
    if (to.accumulate) v = load(to.dx + at, lanes) + v;
    store(to.dx + at, v, lanes);
  }

  // ---- activations ----

  struct ValueAndSlope {
    Floats value, slope;
  };
  template <Activation kActivation>
  static LATHE_INLINE ValueAndSlope evaluate(Floats x) {
    const Floats one = S::set1(1.0f), zero = S::zero();
    if constexpr (kActivation == Activation::silu) {
      const Floats s = one / (one + VectorMath<S>::exp(zero - x)), value = x * s;
      return {value, s + value * (one - s)};
    } else if constexpr (kActivation == Activation::gelu_tanh) {
      // x s with s = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3). Beyond 30, where s is 0 or 1, the polynomials
      // must not overflow beside s (1 - s).
      const Floats within = S::maximum(S::set1(-30.0f), S::minimum(S::set1(30.0f), x)), square = within * within;
      const Floats cubic = S::fma(within * square, S::set1(0.044715f), within);
      const Floats s = one / (one + VectorMath<S>::exp(cubic * S::set1(-1.5957691216f)));
      const Floats bend = S::fma(square, S::set1(3 * 0.044715f * 1.5957691216f), S::set1(1.5957691216f));
      return {x * s, S::fma(within * s * (one - s), bend, s)};
    } else {
      // x Phi(x), Phi by Abramowitz and Stegun 7.1.26, which is off by 1.5e-7 at most, around the exponential that the
      // density needs as well.
      const Floats bell = VectorMath<S>::exp(S::set1(-0.5f) * x * x), magnitude = S::abs(x);
      const Floats t = one / S::fma(magnitude, S::set1(0.3275911f * 0.70710678f), one);
      Floats p = S::set1(1.061405429f);
      p = S::fma(p, t, S::set1(-1.453152027f));
      p = S::fma(p, t, S::set1(1.421413741f));
      p = S::fma(p, t, S::set1(-0.284496736f));
      p = S::fma(p, t, S::set1(0.254829592f));
      const Floats tail = S::set1(0.5f) * p * t * bell, phi = S::if_less(x, zero, tail, one - tail);
      return {x * phi, S::fma(x, bell * S::set1(0.39894228f), phi)};
    }
  }

  // dx = dy f'(x), and where there is `up`, for y = f(x) up: dx = dy up f'(x), dup = dy f(x).
  template <Activation kActivation>
  static void activation_rows(const ActivationGradients& to, const float* dy, int64_t lddy, const ActivationRows& in,
                              int64_t rows, int64_t n) {
    for (int64_t row = 0; row < rows; ++row)
      over(
          n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            const auto [value, slope] = evaluate<kActivation>(load(in.x + row * in.ldx + i, lanes));
            Floats d = load(dy + row * lddy + i, lanes);
            if (in.up != nullptr) {
              store(to.dup + row * to.lddup + i, d * value, lanes);
              d = d * load(in.up + row * in.ldup + i, lanes);
            }
            store(to.dx + row * to.lddx + i, d * slope, lanes);
          });
  }
  static void activation(const ActivationGradients& to, const float* dy, int64_t lddy, const ActivationRows& in,
                         int64_t rows, int64_t n, Activation f) {
    switch (f) {
      case Activation::silu: return activation_rows<Activation::silu>(to, dy, lddy, in, rows, n);
      case Activation::gelu_exact: return activation_rows<Activation::gelu_exact>(to, dy, lddy, in, rows, n);
      case Activation::gelu_tanh: return activation_rows<Activation::gelu_tanh>(to, dy, lddy, in, rows, n);
    }
  }

  // ---- softmax ----

  static float largest(const float* x, int64_t n) {
    Floats most = S::set1(-__builtin_inff());
    over(
        n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
          const Floats v = load(x + i, lanes);
          most = S::maximum(lanes == 16 ? v : S::keep_lanes(v, 0, lanes, -__builtin_inff()), most);
        });
    return S::largest(most);
  }
  // In lanes for some elements, then in double.
  static double sum_of_exponentials(const float* x, float maximum, int64_t n) {
    constexpr int64_t kRun = 512;
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += kRun) {
      Floats part = S::zero();
      over(
          n - begin < kRun ? n - begin : kRun, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            const Floats v = VectorMath<S>::exp(load(x + begin + i, lanes) - S::set1(maximum));
            part = part + (lanes == 16 ? v : S::keep_lanes(v, 0, lanes, 0.0f));
          });
      sum += static_cast<double>(S::sum(part));
    }
    return sum;
  }
  static void scaled_exponentials(float* y, const float* x, float logsumexp, float factor, int64_t n) {
    over(
        n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
          store(y + i, VectorMath<S>::exp(load(x + i, lanes) - S::set1(logsumexp)) * S::set1(factor), lanes);
        });
  }

  static constexpr RowGradientTable kTable{rms_norm, layer_norm,          activation,
                                           largest,  sum_of_exponentials, scaled_exponentials};
};

}  // namespace lathe::cpu
