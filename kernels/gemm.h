// General products for training, and what is computed around them without a pass of its own. Inference uses
// packed_linear.h.
//
// An output's bits depend on K alone: not on the number of threads, nor on what stands beside it in C.
#pragma once
#include <optional>

#include "kernels/activation.h"
#include "kernels/packed_linear.h"

namespace lathe {

// Instead of an operand x its activation f(x), or f(x) * up, of the same rows as they are stored.
template <class T>
struct GemmActivated {
  Activation f;
  ConstRows<T> up = {};  // null: none
};

// C (M, N), once it is whole, through the gradient of y = f(x), or of f(x) * up: C = C f'(x), or C = C up f'(x) and
// dup = C f(x). All (M, N).
template <class T>
struct GemmSlope {
  Activation f;
  ConstRows<T> x, up = {};  // null: none
  Rows<T> dup = {};

  GemmSlope from_column(int64_t column) const {
    const auto at = [&](auto rows) {
      return rows.data != nullptr ? decltype(rows){rows.data + column, rows.stride} : rows;
    };
    return {f, at(x), at(up), at(dup)};
  }
};

// What else a product does on its way.
template <class T>
struct GemmOptions {
  Arithmetic arithmetic = Arithmetic::f32;  // or bf16: operands rounded to it, sums and C in f32; double ignores it
  const T* bias = nullptr;                  // (N): added to every row of C, which is then not accumulated into
  T* row_sums = nullptr;                    // (M) += the sums of op(A) over K; only with transpose_a
  std::optional<GemmActivated<T>> activated_a = {}, activated_b = {};  // of the operand that is not transposed
  std::optional<GemmSlope<T>> slope = {};
};

namespace kernel {

// C (M, N) = op(A) op(B), or += when `accumulate`. op(A) is (M, K): A itself, or its transpose when
// `transpose_a`; op(B) (K, N) alike. The rows of A and B are those
// that are stored. T: float, double.
template <class T>
void gemm(Cpu, Rows<T> c, ConstRows<T> a, bool transpose_a, ConstRows<T> b, bool transpose_b, int64_t m, int64_t n,
          int64_t k, bool accumulate, const GemmOptions<std::type_identity_t<T>>& options = {});
template <class T>
void gemm(Cuda, Rows<T> c, ConstRows<T> a, bool transpose_a, ConstRows<T> b, bool transpose_b, int64_t m, int64_t n,
          int64_t k, bool accumulate, const GemmOptions<std::type_identity_t<T>>& options = {});
// Whether products in bf16 run in the machine's own instructions; elsewhere the rounded values are multiplied in f32.
bool gemm_multiplies_bf16(Cpu);
bool gemm_multiplies_bf16(Cuda);

}  // namespace kernel
}  // namespace lathe
