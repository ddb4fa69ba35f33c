// Which arithmetic the products of unpacked weights use on this thread, forward and backward: mixed precision.
//
//   const Precision bf16(Arithmetic::bf16);   // while it lives
//   ... loss(model, batch, targets); tape.backward(y);
//
// In bf16 both operands of every product are rounded to bf16 on their way into it and its sums are f32; weights, their
// gradients, activations, norms, attention, statistics and the loss stay f32 (Micikevicius et al. 2018, without a scale
// of the loss, which bf16's range does not need); on CUDA attention multiplies in bf16 as well. Where a machine has no
// faster instructions for bf16 the rounded values are multiplied as f32. Double precision ignores it.
#pragma once
#include "kernels/packed_linear.h"
#include "tensor/active.h"
#include "tensor/tensor.h"

namespace lathe {

class Precision {
 public:
  explicit Precision(Arithmetic products) : products_(products), active_(this) {}
  static Arithmetic products() {
    const Precision* precision = Active<Precision>::current();
    return precision != nullptr ? precision->products_ : Arithmetic::f32;
  }
  // Whether the machine that holds the weights has faster instructions for bf16.
  static bool multiplies_bf16(const Tensor& weights);

 private:
  Arithmetic products_;
  Active<Precision> active_;
};

}  // namespace lathe
