// exp, tanh and the activations on 16 lanes, templates over the simd struct (simd.h).
// Polynomials: Moshier, Cephes, single/expf.c and tanhf.c. Errors over 2^22 arguments of each instruction set, in ulp:
// exp 1.0, tanh 1.4, silu 2.4. gelu is off by 5.3e-7 at most between -5 and 5; in its far negative tail the rounding
// of the exponential's argument shows (45 ulp at -5).
#pragma once
#include "kernels/activation.h"
#include "kernels/cpu/simd.h"

namespace lathe::cpu {

template <class S>
struct VectorMath {
  using Floats = typename S::Floats;

  // exp(x) = 2^n exp(r) with |r| <= ln(2) / 2; ln(2) is taken off in two parts, of which n times the first is exact.
  // Overflows to infinity, vanishes to zero, and NaN stays NaN.
  static LATHE_INLINE Floats exp(Floats x) {
    x = S::minimum(S::set1(89.0f), S::maximum(S::set1(-104.0f), x));
    const Floats n = S::round(x * S::set1(1.44269504f));
    const Floats r = S::fma(n, S::set1(2.12194440e-4f), S::fma(n, S::set1(-0.693359375f), x));
    Floats p = S::set1(1.9875691500e-4f);
    p = S::fma(p, r, S::set1(1.3981999507e-3f));
    p = S::fma(p, r, S::set1(8.3334519073e-3f));
    p = S::fma(p, r, S::set1(4.1665795894e-2f));
    p = S::fma(p, r, S::set1(1.6666665459e-1f));
    p = S::fma(p, r, S::set1(5.0000001201e-1f));
    return S::scale_by_power(S::fma(p, r * r, r) + S::set1(1.0f), n);
  }

  // 2^x for x <= 0, or above by no more than rounding, within 2 ulp; vanishes to zero, and NaN stays NaN. 2^n p(x - n):
  // p has the smallest relative error of its degree with p(0) = 1 (Remez exchange; 1.1e-7).
  static LATHE_INLINE Floats exp2(Floats x) {
    x = S::maximum(S::set1(-150.0f), x);
    const Floats n = S::round(x), r = x - n;
    Floats p = S::set1(1.326472848e-3f);
    p = S::fma(p, r, S::set1(9.671513923e-3f));
    p = S::fma(p, r, S::set1(5.550733581e-2f));
    p = S::fma(p, r, S::set1(2.402224243e-1f));
    p = S::fma(p, r, S::set1(6.931470037e-1f));
    return S::scale_by_power(S::fma(p, r, S::set1(1.0f)), n);
  }

  static LATHE_INLINE Floats tanh(Floats x) {
    const Floats one = S::set1(1.0f), two = S::set1(2.0f), zero = S::zero(), magnitude = S::abs(x), z = x * x;
    Floats p = S::set1(-5.70498872745e-3f);
    p = S::fma(p, z, S::set1(2.06390887954e-2f));
    p = S::fma(p, z, S::set1(-5.37397155531e-2f));
    p = S::fma(p, z, S::set1(1.33314422036e-1f));
    p = S::fma(p, z, S::set1(-3.33332819422e-1f));
    const Floats small = S::fma(p * z, x, x);
    const Floats large = one - two / (exp(magnitude + magnitude) + one);
    return S::if_less(magnitude, S::set1(0.625f), small, S::if_less(x, zero, zero - large, large));
  }

  // x sigmoid(t)
  static LATHE_INLINE Floats gate(Floats x, Floats t) { return x / (S::set1(1.0f) + exp(S::zero() - t)); }

  template <Activation kActivation>
  static LATHE_INLINE Floats activate(Floats x) {
    if constexpr (kActivation == Activation::silu) {
      return gate(x, x);
    } else if constexpr (kActivation == Activation::gelu_tanh) {
      // (1 + tanh u) / 2 is sigmoid(2 u), which does not cancel for negative u.
      const Floats cubic = S::fma(x * x * x, S::set1(0.044715f), x);
      return gate(x, cubic * S::set1(1.5957691216f));
    } else {
      float lanes[16];  // (1 + erf u) / 2 is erfc(-u) / 2, which does not cancel either
      S::store(lanes, x);
      for (float& v : lanes) v = 0.5f * v * __builtin_erfcf(-0.70710678f * v);
      return S::load(lanes);
    }
  }
};

}  // namespace lathe::cpu
