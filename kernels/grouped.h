// Products of groups of rows, each with a weight of its own, where the groups' borders are known to the device alone:
// the experts of a mixture on CUDA, whose tokens sort_by_expert (routing.h) has counted there.
//
// starts (E + 1), on the device: group e has rows [starts[e], starts[e + 1]), from 0 to `rows`. The grid is that of the
// worst case and nothing is read on the host, so that a launch can be captured. Arrays of pointers are the host's,
// their E elements point to the device, and are part of the launch. A row's bits are those of gemm and of packed_linear
// with its own weight: they do not depend on its group's other rows. (On the CPU an operation runs those group by
// group.)
#pragma once
#include "kernels/gemm.h"
#include "kernels/packed_linear.h"

namespace lathe::kernel {

// c (rows, N) = a (rows, K) op(b[e]) (+ bias[e]), or += where `accumulate`, row by row with its group's e. op(b[e]) is
// (K, N): b[e] itself, the transpose of (N, K) rows where `transpose_b`. biases: null, or (N) or null for each e.
// Forward: b the weights (out, in), transposed. Their input's gradient: the same ones, not transposed.
template <class T>
void grouped_gemm(Cuda, Rows<T> c, ConstRows<T> a, const std::type_identity_t<T>* const* b, int64_t b_stride,
                  bool transpose_b, const std::type_identity_t<T>* const* biases, const int32_t* starts, int64_t groups,
                  int64_t rows, int64_t n, int64_t k, bool accumulate, Arithmetic arithmetic);

// dw[e] (out, in) += dy^T x over the rows of group e, and db[e] (out) += the sums of dy's columns. dy (rows, out),
// x (rows, in). Null dw[e] or db[e]: not wanted; db may be null.
template <class T>
void grouped_gemm_weights_backward(Cuda, T* const* dw, int64_t dw_stride, T* const* db, ConstRows<T> dy, ConstRows<T> x,
                                   const int32_t* starts, int64_t groups, int64_t out, int64_t in,
                                   Arithmetic arithmetic);

// y (rows, N) = x (rows, K) w[e]^T (+ bias[e]) for packed weights of one shape; biases as above. Scratch: 64-byte
// aligned.
size_t grouped_packed_linear_scratch_bytes(Cuda, const PackedMatrix* weights, int64_t groups, int64_t rows,
                                           Arithmetic arithmetic);
void grouped_packed_linear(Cuda, Rows<float> y, ConstRows<float> x, const PackedMatrix* weights,
                           const float* const* biases, const int32_t* starts, int64_t groups, int64_t rows,
                           Arithmetic arithmetic, void* scratch);

}  // namespace lathe::kernel
