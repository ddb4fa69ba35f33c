// General products for training and for oracles: a library (Eigen) chooses the order of the sums by shape, so the same
// bits are promised only for the same call repeated. Inference uses packed_linear.h.
#pragma once
#include <cstdint>

namespace lathe::cpu {

// C (M, N; row stride ldc) = op(A) op(B), or += when `accumulate`. op(A) is (M, K): A itself, or its transpose when
// `transpose_a`; op(B) (K, N) alike. Row-major; lda and ldb are row strides of A and B as stored. T: float, double.
template <class T>
void gemm(T* c, int64_t ldc, const T* a, int64_t lda, bool transpose_a, const T* b, int64_t ldb, bool transpose_b,
          int64_t m, int64_t n, int64_t k, bool accumulate);

}  // namespace lathe::cpu
