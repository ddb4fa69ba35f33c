// One tile of a product, and the functions that compute it on each instruction set: doubles are for oracles alone and
// have one form. Internal to gemm.
#pragma once
#include <cstdint>

namespace lathe::cpu {

// As in kernels/gemm.h.
template <class T>
struct GemmArguments {
  T* c;
  int64_t ldc;
  const T* a;
  int64_t lda;
  bool transpose_a;
  const T* b;
  int64_t ldb;
  bool transpose_b;
  int64_t m, n, k;
  bool accumulate;
};

// The product as one tile, on the calling thread.
template <class T>
void gemm_tile(const GemmArguments<T>& g);
#if defined(__x86_64__)
void gemm_tile_avx2(const GemmArguments<float>& g);
void gemm_tile_avx512(const GemmArguments<float>& g);
#endif

}  // namespace lathe::cpu
