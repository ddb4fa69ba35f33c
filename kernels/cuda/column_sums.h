// Sums over rows, column by column, with neither atomics nor scratch: a block owns 16 columns (64 bytes of a row, what
// memory moves at least) and takes all rows. A warp reads 8 rows at a time, a block 128; thread sums, then warps, then
// the block's 16 warps are added in a fixed order, so the bits are a function of the values and the number of rows.
//
// 768 columns are 48 blocks of 512 threads. A multiprocessor takes 64 bytes a clock (112 GB/s at 1.75 GHz), so 48 of
// them could take 5.4 TB/s, and 4 rows of two arrays in flight a thread are 64 KB, the 62 KB that 3.0 TB/s ask of
// each: memory stays the limit. Of one array (bias.cu, the shares of rms_norm) 32 KB are in flight, which half of
// 3.0 TB/s ask for. Fewer columns a block would fetch halves of what memory moves.
#pragma once
#include "kernels/cuda/over_grid.h"

namespace lathe::kernel {

// (n) each, added to; null: not wanted.
struct ColumnSums {
  float *first, *second;
};

// f.terms(terms, row, i, left) gives what row adds to columns i to i + 3 of each sum.
template <int kSums, class F>
__global__ void __launch_bounds__(512) column_sums_kernel(const ColumnSums to, const F f, int64_t rows, int64_t n) {
  SHARED_ARRAY(float, parts, [16][kSums][16]);
  const int quad = threadIdx.x % 4, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t i = 16 * int64_t{blockIdx.x} + 4 * quad, left = n - i;
  Four sums[kSums] = {};
  if (left > 0) {
#pragma unroll 4
    for (int64_t row = threadIdx.x / 4; row < rows; row += 128) {
      Four terms[kSums];
      f.terms(terms, row, i, left);
#pragma unroll
      for (int s = 0; s < kSums; ++s)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[s].v[j] += terms[s].v[j];
    }
  }
#pragma unroll
  for (int s = 0; s < kSums; ++s)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float sum = sums[s].v[j];
#pragma unroll
      for (int distance = 4; distance < 32; distance *= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
      if (lane < 4) parts[warp][s][4 * quad + j] = sum;
    }
  __syncthreads();
  const int64_t column = 16 * int64_t{blockIdx.x} + threadIdx.x % 16;
  const int s = static_cast<int>(threadIdx.x) / 16;
  float* const total = s == 0 ? to.first : to.second;
  if (s < kSums && column < n && total != nullptr) {
    float sum = 0.0f;
    for (int w = 0; w < 16; ++w) sum += parts[w][s][threadIdx.x % 16];
    total[column] += sum;
  }
}

template <int kSums, class F>
void add_column_terms(Cuda on, const ColumnSums& to, int64_t rows, int64_t n, const F& f) {
  if (rows == 0 || n == 0) return;
  LAUNCH((column_sums_kernel<kSums, F>), dim3(blocks_of(n, 16)), dim3(512), 0, on.stream, to, f, rows, n);
}

}  // namespace lathe::kernel
