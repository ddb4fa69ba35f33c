// c = a b^T on tensor cores: a (m, k), b (n, k), c (m, n) in bf16, f32 sums; k a multiple of 8. A block of 4 warps
// makes 64 x 64 of c, a warp 32 x 32, in steps of 32 along k; two buffers are filled by cp.async in turn. Shared rows
// of 64 bytes are swizzled, so that ldmatrix finds its 8 rows in different banks.
#include "tests/simt/examples/examples.h"

namespace lathe::kernel {
namespace {

constexpr int kTile = 64, kStep = 32, kPacks = kStep / 8;  // packs of 16 bytes in a row of a tile

// The place of pack `p` of row r, in elements.
__device__ __forceinline__ int place(int r, int p) { return r * kStep + (p ^ (r / 2 % 4)) * 8; }

// Rows first .. first + 63 of x (rows, k), columns k0 .. k0 + 31, zeros beyond its bounds.
__device__ __forceinline__ void load_tile(bf16* tile, const bf16* x, int rows, int k, int first, int k0) {
  for (int i = threadIdx.x; i < kTile * kPacks; i += blockDim.x) {
    const int r = i / kPacks, p = i % kPacks, column = k0 + p * 8;
    const bool inside = first + r < rows && column < k;
    cp_async16(tile + place(r, p), inside ? x + static_cast<size_t>(first + r) * k + column : x, inside);
  }
}

__global__ void __launch_bounds__(128)
    gemm_kernel(bf16* __restrict__ c, const bf16* __restrict__ a, const bf16* __restrict__ b, int m, int n, int k) {
  SHARED_ARRAY(bf16, a_tiles, [2][kTile * kStep]);
  SHARED_ARRAY(bf16, b_tiles, [2][kTile * kStep]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warp_row = warp % 2 * 32, warp_column = warp / 2 * 32;
  const int row = blockIdx.y * kTile, column = blockIdx.x * kTile, steps = (k + kStep - 1) / kStep;
  const auto load = [&](int step) {
    load_tile(a_tiles[step % 2], a, m, k, row, step * kStep);
    load_tile(b_tiles[step % 2], b, n, k, column, step * kStep);
    cp_async_commit();
  };
  float sums[2][4][4] = {};
  load(0);
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) {
      load(step + 1);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();
    for (int half = 0; half < 2; ++half) {
      uint32_t a_part[2][4], b_part[2][4];
      for (int i = 0; i < 2; ++i)
        ldmatrix_x4(a_part[i], a_tiles[step % 2] + place(warp_row + i * 16 + lane % 16, half * 2 + lane / 16));
      for (int j = 0; j < 2; ++j)
        ldmatrix_x4(b_part[j], b_tiles[step % 2] +
                                   place(warp_column + j * 16 + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2));
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) {
          const uint32_t part[2] = {b_part[j / 2][j % 2 * 2], b_part[j / 2][j % 2 * 2 + 1]};
          mma_bf16_16816(sums[i][j], a_part[i], part);
        }
    }
    __syncthreads();  // before the buffer is filled again
  }
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      for (int e = 0; e < 4; ++e) {
        const int r = row + warp_row + i * 16 + lane / 4 + e / 2 * 8;
        const int q = column + warp_column + j * 8 + lane % 4 * 2 + e % 2;
        if (r < m && q < n) c[static_cast<size_t>(r) * n + q] = to_bf16(sums[i][j][e]);
      }
}

}  // namespace

void example_gemm(Cuda cuda, bf16* c, const bf16* a, const bf16* b, int m, int n, int k) {
  const dim3 grid((n + kTile - 1) / kTile, (m + kTile - 1) / kTile);
  LAUNCH(gemm_kernel, grid, dim3(128), 0, cuda.stream, c, a, b, m, n, k);
}

}  // namespace lathe::kernel
