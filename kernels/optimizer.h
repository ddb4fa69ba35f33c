// Steps of optimizers over flat f32 memory: weights, their gradients and the optimizer's states, each read and written
// once. The bits do not depend on the number of threads, nor on how the memory is cut into calls (of the steps), nor on
// the instruction set.
#pragma once
#include <cstdint>

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

// States of 8 bits in place of f32: blocks of kStateBlock codes with one scale each (Dettmers et al. 2022, "8-bit
// Optimizers via Block-wise Quantization", section 2; the map from codes to values is another one). A code k from -127
// to 127 stands for
//   any_sign  scale * sign(k) (k / 127)^4
//   positive  scale * ((k + 128) / 255)^4, which is never 0: a second moment that vanished before its first moment
//             would make an enormous step
// so that steps are at most 3.2% and 1.6% of the scale, and the smallest values 4e-9 and 2e-10 of it. A scale is a
// power of two and stays while the block's largest magnitude is in (scale / 4, scale], which makes it less than four
// times that magnitude: where the grid stands still, only what a value moved by is rounded.
//
// A value becomes one of its two neighbours, so that its expectation is the value: a second moment moves 0.1% a step
// with beta2 = 0.999, and would stand still if the nearer one were taken.
inline constexpr int64_t kStateBlock = 256;
enum class StateMap : uint8_t { any_sign, positive };
struct CodedState {
  int8_t* codes;  // (n), n a multiple of kStateBlock; before the first step scales are 0, whatever the codes
  float* scales;  // (n / kStateBlock)
};
// What chance is made of: element i of block b is rounded by word i / 64 of Philox at the counter 64 b + i mod 64, by
// its lower 16 bits in what a call codes first, by the upper ones in the second.
struct StateDraws {
  uint64_t seed, stream;
  int64_t first_block;  // the number of the first block of the call
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

// The same with coded states, n a multiple of kStateBlock: they are decoded, stepped in f32 and coded again.
void adamw_step(Cpu, float* w, CodedState m, CodedState v, float* g, int64_t n, const AdamwStep& step,
                const StateDraws& draws);
void sgd_step(Cpu, float* w, CodedState m, float* g, int64_t n, const SgdStep& step, const StateDraws& draws);
// x (n)
void decode_state(Cpu, float* x, CodedState state, int64_t n, StateMap map);
void encode_state(Cpu, CodedState state, const float* x, int64_t n, StateMap map, const StateDraws& draws);

}  // namespace kernel
}  // namespace lathe
