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
template <class T, bool transposed>
__global__ void multiply_kernel(float* __restrict__ c, const T* __restrict__ a, const T* __restrict__ b) {
  SHARED_ARRAY(T, rows, [16 * 16]);
  SHARED_ARRAY(T, columns, [16 * 16]);
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
    if constexpr (std::is_same_v<T, bf16>)
      mma_bf16_16816(sums[j], a_part, part);
    else
      mma_f16_16816(sums[j], a_part, part);
    for (int e = 0; e < 4; ++e) c[(lane / 4 + e / 2 * 8) * 16 + j * 8 + lane % 4 * 2 + e % 2] = sums[j][e];
  }
}

__global__ void multiply_int8_kernel(int* __restrict__ c, const int8_t* __restrict__ a, const int8_t* __restrict__ b) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const auto word = [](const int8_t* p) { return *reinterpret_cast<const uint32_t*>(p); };
  const uint32_t a_part[4] = {word(a + g * 32 + 4 * t), word(a + (g + 8) * 32 + 4 * t), word(a + g * 32 + 16 + 4 * t),
                              word(a + (g + 8) * 32 + 16 + 4 * t)};
  const uint32_t b_part[2] = {word(b + g * 32 + 4 * t), word(b + g * 32 + 16 + 4 * t)};
  int sums[4] = {};
  mma_s8_16832(sums, a_part, b_part);
  for (int e = 0; e < 4; ++e) c[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = sums[e];
}

}  // namespace

void example_reduce(Cuda cuda, float* sums, float* maxima, int* counts, float* warp_maxima, const float* x, int blocks,
                    int threads) {
  LAUNCH(reduce_kernel, dim3(blocks), dim3(threads), 0, cuda.stream, sums, maxima, counts, warp_maxima, x);
}
template <class T>
void example_multiply(Cuda cuda, float* c, const T* a, const T* b, bool transposed) {
  if (transposed)
    LAUNCH((multiply_kernel<T, true>), dim3(1), dim3(32), 0, cuda.stream, c, a, b);
  else
    LAUNCH((multiply_kernel<T, false>), dim3(1), dim3(32), 0, cuda.stream, c, a, b);
}
template void example_multiply(Cuda, float*, const bf16*, const bf16*, bool);
template void example_multiply(Cuda, float*, const f16*, const f16*, bool);
void example_multiply_int8(Cuda cuda, int* c, const int8_t* a, const int8_t* b) {
  LAUNCH(multiply_int8_kernel, dim3(1), dim3(32), 0, cuda.stream, c, a, b);
}

}  // namespace lathe::kernel
