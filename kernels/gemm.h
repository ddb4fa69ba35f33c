// General products for training and for oracles: a library (Eigen) chooses the order of the sums by shape, so the same
// bits are promised only for the same call repeated. Inference uses packed_linear.h.
#pragma once
#include "kernels/device.h"

namespace lathe::kernel {

// C (M, N) = op(A) op(B), or += when `accumulate`. op(A) is (M, K): A itself, or its transpose when
// `transpose_a`; op(B) (K, N) alike. The rows of A and B are those
// that are stored. T: float, double.
template <class T>
void gemm(Cpu, Rows<T> c, ConstRows<T> a, bool transpose_a, ConstRows<T> b, bool transpose_b, int64_t m, int64_t n,
          int64_t k, bool accumulate);

}  // namespace lathe::kernel
