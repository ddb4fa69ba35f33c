// Steps of optimizers over flat f32 memory: weights, their gradients and the optimizer's states, each read and written
// once. The bits do not depend on the number of threads, nor on how the memory is cut into calls (of the steps), nor on
// the instruction set.
#pragma once
#include "kernels/device.h"

namespace lathe {

// With g the gradient times `gradient_scale` (of clipping):
//   w *= 1 - learning_rate * weight_decay
//   m += (1 - beta1) (g - m),  v = beta2 v + (1 - beta2) g^2
//   w -= learning_rate / bias_correction1 * m / (sqrt(v) / sqrt(bias_correction2) + epsilon)
// Loshchilov and Hutter 2019, algorithm 2, in the order of torch.optim.AdamW. Before the first step m and v are zeros.
struct AdamwStep {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
  double bias_correction1, bias_correction2;  // 1 - beta^step, step from 1
  double gradient_scale = 1.0;
  bool clear_gradient = false;  // g is zero afterwards, without a pass of its own
};

// With g the gradient times `gradient_scale`, plus weight_decay * w:
//   m = momentum m + g,  w -= learning_rate * m
// as torch.optim.SGD. Before the first step m is zeros.
struct SgdStep {
  double learning_rate, momentum, weight_decay;
  double gradient_scale = 1.0;
  bool clear_gradient = false;
};

namespace kernel {

// The sum of x[i]^2 over n elements, squared exactly and summed in double.
double sum_of_squares(Cpu, const float* x, int64_t n);
// sums[0] is set to it; the others are scratch.
inline constexpr int64_t kSumsOfSquares = 1025;
void sum_of_squares(Cuda, double* sums, const float* x, int64_t n);

// w, m, v, g (n). On Cuda the step is an argument of the launch: a captured one repeats it, so it must be set anew in
// the graph, or stay outside it.
void adamw_step(Cpu, float* w, float* m, float* v, float* g, int64_t n, const AdamwStep& step);
void adamw_step(Cuda, float* w, float* m, float* v, float* g, int64_t n, const AdamwStep& step);
// w, m, g (n); m may be null where momentum is 0.
void sgd_step(Cpu, float* w, float* m, float* g, int64_t n, const SgdStep& step);
void sgd_step(Cuda, float* w, float* m, float* g, int64_t n, const SgdStep& step);

}  // namespace kernel
}  // namespace lathe
