// Parameter: a weight, its gradient, and what kind of weight it is.
#pragma once
#include <optional>

#include "kernels/packed_linear.h"
#include "tensor/tensor.h"

namespace lathe {

// A weight in the layout of the inference kernels, and the arithmetic it was prepared for.
struct PackedWeight {
  Tensor storage;  // bytes behind `matrix`
  PackedMatrix matrix;
  Arithmetic arithmetic = Arithmetic::f32;
};

struct Parameter {
  // Decides weight decay, the optimizer's group and what may be quantised: not a router, whose rounding would send
  // tokens to other experts, nor a table of positions.
  enum class Kind : uint8_t { matrix, embedding, position, norm, bias, router };

  Parameter() = default;
  Parameter(Kind kind, Shape shape) : kind(kind), shape(shape) {}

  Kind kind = Kind::matrix;
  Shape shape;   // what the model expects; matrix, router (out, in); embedding, position (rows, C); norm, bias (n)
  Tensor value;  // in the checkpoint's layout and dtype; undefined before loading and once packed
  std::optional<PackedWeight> packed;  // what inference reads instead of `value` when it is there
  // Summed by backward in f32 (f64 for f64 values); undefined until the first backward reaches it. Mutable: a forward
  // over a const model records where its gradients will go.
  mutable Tensor grad;
  bool trainable = true;
  double share = 1.0;  // fraction of tokens that use it: k / E for an expert's

  bool is_vector() const { return kind == Kind::norm || kind == Kind::bias; }
  bool is_table() const { return kind == Kind::embedding || kind == Kind::position; }  // looked up by row
  // Packs `value` for the inference kernels and drops it; matrices and embeddings only, f64 stays as it is.
  void prepare_for_inference(Arithmetic arithmetic);
  // The gradient to add to: made of zeros at the first call.
  Tensor& gradient() const;
};

}  // namespace lathe
