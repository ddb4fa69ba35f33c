// Three kernels on which the emulator is tried: a reduction, an attention, a matrix product on tensor cores.
#pragma once
#include "kernels/cuda/gpu.h"

namespace lathe::kernel {

// residual += x; y = residual / sqrt(mean(residual^2) + eps) * w. All (rows, n) but w (n); n a multiple of 8.
void example_rms_norm(Cuda cuda, bf16* y, bf16* residual, const bf16* x, const bf16* w, int rows, int n, float eps);

// out, q (sequences, heads, 2, 128): two query heads for each of `heads` key-value heads. keys, values
// (pages, heads, 16, 128); tables (sequences, max_pages); lengths (sequences), at least 1.
// part (sequences, heads, 2, splits, 128) and part_sum (sequences, heads, 2, splits) are scratch.
void example_paged_decode(Cuda cuda, bf16* out, float* part, float2* part_sum, const bf16* q, const bf16* keys,
                          const bf16* values, const int* tables, const int* lengths, int sequences, int heads,
                          int splits, int max_pages, float scale);

// c (m, n) = a (m, k) b (n, k)^T; k a multiple of 8.
void example_gemm(Cuda cuda, bf16* c, const bf16* a, const bf16* b, int m, int n, int k);

}  // namespace lathe::kernel
