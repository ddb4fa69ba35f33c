// y = x / sqrt(mean(x^2) + eps) * w with x = x + residual, which is written back. One block a row, 16 bytes a thread.
#include "tests/simt/examples/examples.h"

namespace lathe::kernel {

template <class T>
__global__ void __launch_bounds__(1024)
    rms_norm_kernel(T* __restrict__ y, T* __restrict__ residual, const T* __restrict__ x, const T* __restrict__ w,
                    int n, float eps) {
  DYN_SHARED(float, row);
  const size_t first = static_cast<size_t>(blockIdx.x) * n;
  const int step = blockDim.x * Pack<T>::size;
  float sum = 0;
  for (int i = threadIdx.x * Pack<T>::size; i < n; i += step) {
    const Pack<T> a = load_pack(x + first + i);
    Pack<T> r = load_pack(residual + first + i);
#pragma unroll
    for (int j = 0; j < Pack<T>::size; ++j) {
      r.v[j] = from_float<T>(to_float(a.v[j]) + to_float(r.v[j]));
      const float v = to_float(r.v[j]);
      row[i + j] = v;
      sum += v * v;
    }
    store_pack(residual + first + i, r);
  }
  const float scale = rsqrtf(block_sum(sum) / n + eps);
  for (int i = threadIdx.x * Pack<T>::size; i < n; i += step) {
    const Pack<T> gain = load_pack(w + i);
    Pack<T> out;
#pragma unroll
    for (int j = 0; j < Pack<T>::size; ++j) out.v[j] = from_float<T>(row[i + j] * scale * to_float(gain.v[j]));
    store_pack(y + first + i, out);
  }
}

void example_rms_norm(Cuda cuda, bf16* y, bf16* residual, const bf16* x, const bf16* w, int rows, int n, float eps) {
  LAUNCH((rms_norm_kernel<bf16>), dim3(rows), dim3(256), n * sizeof(float), cuda.stream, y, residual, x, w, n, eps);
}

}  // namespace lathe::kernel
