// General products for training. Inference uses packed_linear.h.
//
// An output's bits depend on K alone: not on the number of threads, nor on what stands beside it in C.
#pragma once
#include "kernels/device.h"
#include "kernels/packed_linear.h"

namespace lathe {

// What else a product does on its way.
template <class T>
struct GemmOptions {
  Arithmetic arithmetic = Arithmetic::f32;  // or bf16: operands rounded to it, sums and C in f32; double ignores it
  const T* bias = nullptr;                  // (N): added to every row of C, which is then not accumulated into
  T* row_sums = nullptr;                    // (M) += the sums of op(A) over K; only with transpose_a
};

namespace kernel {

// C (M, N) = op(A) op(B), or += when `accumulate`. op(A) is (M, K): A itself, or its transpose when
// `transpose_a`; op(B) (K, N) alike. The rows of A and B are those
// that are stored. T: float, double.
template <class T>
void gemm(Cpu, Rows<T> c, ConstRows<T> a, bool transpose_a, ConstRows<T> b, bool transpose_b, int64_t m, int64_t n,
          int64_t k, bool accumulate, const GemmOptions<std::type_identity_t<T>>& options = {});

}  // namespace kernel
}  // namespace lathe
