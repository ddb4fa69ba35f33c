// What optimizers do to weights: tensors are written over and nothing is recorded. All are f32, contiguous, and of one
// device.
#pragma once
#include "kernels/optimizer.h"
#include "tensor/tensor.h"

namespace lathe {

// w, m, v, g of as many elements: kernels/optimizer.h says what a step is. sgd_step's m may be undefined.
void adamw_step(const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g, const AdamwStep& step);
void sgd_step(const Tensor& w, const Tensor& m, const Tensor& g, const SgdStep& step);

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
