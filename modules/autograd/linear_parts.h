// The arithmetic of products with one or several weights, for the operations that record it. Internal to autograd/.
#pragma once
#include <span>

#include "autograd/ops.h"

namespace lathe {

inline int64_t out_features(const LinearWeight& part) { return part.weight->shape[0]; }
// Checks shapes against x (N, in) and gives the sum of the parts' outputs. Throws Error.
int64_t check_parts(const Tensor& x, std::span<const LinearWeight> parts);
// Whether a tape wants the product recorded; throws Error where a gradient could not be written then.
bool linear_records(const Tensor& x, std::span<const LinearWeight> parts);
// Whether the backward reads x.
bool backward_reads_input(std::span<const LinearWeight> parts);

// y (N, out_0 + out_1 + ...; rows may be strided) = x (N, in) with every part.
void linear_forward(const Tensor& y, const Tensor& x, std::span<const LinearWeight> parts);
// dx (N, in), set or added to where `accumulate`, undefined where nobody wants it; adds to the gradients of the
// weights. dy is contiguous, x is read only where backward_reads_input.
void linear_backward(const Tensor& dx, bool accumulate, const Tensor& dy, const Tensor& x,
                     std::span<const LinearWeight> parts);

// Rows [first, first + count) of a matrix, packed or not, in `dtype`: (count, in).
Tensor weight_rows(const Parameter& weight, int64_t first, int64_t count, DType dtype);

}  // namespace lathe
