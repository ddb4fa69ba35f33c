// The activation functions and their derivatives with the standard library's exp, tanh and erf: the oracle of the fast
// forwards, and what the backward computes with.
#pragma once
#include <cmath>

#include "kernels/activation.h"

namespace lathe::cpu {
namespace {

template <class T>
struct ValueAndSlope {
  T value, slope;
};

template <class T>
ValueAndSlope<T> evaluate(Activation f, T x) {
  switch (f) {
    case Activation::silu: {
      const T s = 1 / (1 + std::exp(-x));
      return {x * s, s * (1 + x * (1 - s))};
    }
    case Activation::gelu_exact: {
      const T phi = T(0.5) * (1 + std::erf(x * T(0.70710678118654752440)));     // the normal distribution
      const T density = T(0.39894228040143267794) * std::exp(T(-0.5) * x * x);  // its density
      return {x * phi, phi + x * density};
    }
    case Activation::gelu_tanh: break;
  }
  constexpr T k = T(0.79788456080286535588), c = T(0.044715);  // sqrt(2 / pi)
  const T t = std::tanh(k * (x + c * x * x * x));
  const T bend = 1 - t * t;  // 0 far out, where the polynomial beside it overflows
  const T slope = bend > 0 ? T(0.5) * x * bend * k * (1 + 3 * c * x * x) : T(0);
  return {T(0.5) * x * (1 + t), T(0.5) * (1 + t) + slope};
}

}  // namespace
}  // namespace lathe::cpu
