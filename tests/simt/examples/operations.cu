// Each operation of gpu_operations.h by itself.
#include "tests/simt/examples/examples.h"

namespace lathe::kernel {
namespace {

// One after the other, so that each must be done with shared memory before the next.
__global__ void reduce_kernel(float* __restrict__ sums, float* __restrict__ maxima, int* __restrict__ counts,
                              float* __restrict__ warp_maxima, const float* __restrict__ x) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  sums[i] = block_sum(x[i]);
  sums[i] += block_sum(x[i] * 2);
  maxima[i] = block_max(x[i]);
  counts[i] = block_sum(x[i] > 0 ? 1 : 0);
  warp_maxima[i] = warp_max(x[i]);
}

// One warp; a (16, 16) by rows in shared memory, b (16, 8) by columns or, for ldmatrix_x4_trans, by rows.
template <bool transposed>
__global__ void multiply_kernel(float* __restrict__ c, const bf16* __restrict__ a, const bf16* __restrict__ b) {
  SHARED_ARRAY(bf16, rows, [16 * 16]);
  SHARED_ARRAY(bf16, columns, [16 * 16]);
  const int lane = threadIdx.x;
  store_pack(rows + lane * 8, load_pack(a + lane * 8));
  store_pack(columns + lane * 8, load_pack(b + lane * 8));
  __syncwarp();
  uint32_t a_part[4], b_part[4];
  ldmatrix_x4(a_part, rows + lane % 16 * 16 + lane / 16 * 8);
  float sums[2][4] = {};
  if constexpr (transposed)
    ldmatrix_x4_trans(b_part, columns + lane % 16 * 16 + lane / 16 * 8);
  else
    ldmatrix_x4(b_part, columns + (lane % 8 + lane / 16 * 8) * 16 + lane / 8 % 2 * 8);
  for (int j = 0; j < 2; ++j) {
    const uint32_t part[2] = {b_part[2 * j], b_part[2 * j + 1]};
    mma_bf16_16816(sums[j], a_part, part);
    for (int e = 0; e < 4; ++e) c[(lane / 4 + e / 2 * 8) * 16 + j * 8 + lane % 4 * 2 + e % 2] = sums[j][e];
  }
}

}  // namespace

void example_reduce(Cuda cuda, float* sums, float* maxima, int* counts, float* warp_maxima, const float* x, int blocks,
                    int threads) {
  LAUNCH(reduce_kernel, dim3(blocks), dim3(threads), 0, cuda.stream, sums, maxima, counts, warp_maxima, x);
}
void example_multiply(Cuda cuda, float* c, const bf16* a, const bf16* b, bool transposed) {
  if (transposed)
    LAUNCH(multiply_kernel<true>, dim3(1), dim3(32), 0, cuda.stream, c, a, b);
  else
    LAUNCH(multiply_kernel<false>, dim3(1), dim3(32), 0, cuda.stream, c, a, b);
}

}  // namespace lathe::kernel
