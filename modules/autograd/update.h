// What optimizers do to weights: tensors are written over and nothing is recorded. All are f32, contiguous, and of one
// device.
#pragma once
#include "kernels/optimizer.h"
#include "tensor/tensor.h"

namespace lathe {

// w, m, v, g of as many elements: kernels/optimizer.h says what a step is. sgd_step's m may be undefined.
void adamw_step(const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g, const AdamwStep& step);
void sgd_step(const Tensor& w, const Tensor& m, const Tensor& g, const SgdStep& step);

// A state in codes of 8 bits (kernels/optimizer.h), four of them in an i32.
struct CodedTensor {
  Tensor codes, scales;  // (n / 4) i32, (n / kStateBlock) f32
};
void adamw_step(const Tensor& w, const CodedTensor& m, const CodedTensor& v, const Tensor& g, const AdamwStep& step,
                const StateDraws& draws);
void sgd_step(const Tensor& w, const CodedTensor& m, const Tensor& g, const SgdStep& step, const StateDraws& draws);
Tensor decode_state(const CodedTensor& state, StateMap map);  // (n) f32
void encode_state(const CodedTensor& state, const Tensor& x, StateMap map, const StateDraws& draws);

void fill(const Tensor& y, double value);
void copy(const Tensor& to, const Tensor& from);  // as many elements
void scale_in_place(const Tensor& y, double factor);
// y = beta y + alpha x
void combine(const Tensor& y, double beta, const Tensor& x, double alpha);
// op(a) op(b), op being the transpose where asked: (m, k), (k, n) -> (m, n)
Tensor matrix_product(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b);
// The Euclidean norm of all elements, summed in double.
double norm(const Tensor& x);

}  // namespace lathe
