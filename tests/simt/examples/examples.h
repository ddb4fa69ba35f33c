// Kernels on which the emulator is tried: a reduction, an attention, a matrix product on tensor cores, each operation
// of gpu_operations.h by itself.
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

// Of x (blocks, threads): to every thread three times its block's sum, the maximum, the number of positive elements,
// and the maximum of its warp.
void example_reduce(Cuda cuda, float* sums, float* maxima, int* counts, float* warp_maxima, const float* x, int blocks,
                    int threads);
// c (16, 16) = a (16, 16) b (16, 16)^T, `transposed`: a b.
void example_multiply(Cuda cuda, float* c, const bf16* a, const bf16* b, bool transposed);

}  // namespace lathe::kernel
