// The activations and their derivatives, of one element.
#pragma once
#include "kernels/activation.h"
#include "kernels/cuda/gpu.h"

namespace lathe::kernel {

struct ActivationValue {
  float value, slope;
};

// gelu by erfc, and by a sigmoid where its tanh form says (1 + tanh u) / 2 = sigmoid(2 u): neither cancels for negative
// x. Far out, where the polynomial beside the sigmoid's bend overflows, the bend is 0.
__device__ __forceinline__ ActivationValue activate(Activation f, float x) {
  if (f == Activation::gelu_exact) {
    const float share = 0.5f * erfcf(-0.70710678f * x);
    return {x * share, share + x * 0.39894228f * expf(-0.5f * x * x)};
  }
  float t = x, dt = 1.0f;  // value = x sigmoid(t)
  if (f == Activation::gelu_tanh) {
    t = 1.5957691216f * (x + 0.044715f * x * x * x);
    dt = 1.5957691216f * (1.0f + 0.134145f * x * x);
  }
  const float sigmoid = 1.0f / (1.0f + expf(-t)), bend = sigmoid * (1.0f - sigmoid);
  return {x * sigmoid, sigmoid + (bend > 0.0f ? x * bend * dt : 0.0f)};
}

}  // namespace lathe::kernel
