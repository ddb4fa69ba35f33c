// What kernels share that take rows element by element, four at a time (loads.h): a grid over rows and what lies in
// them. All are bound by memory: a thread moves 16 bytes of each array, and 2,048 threads a multiprocessor keep 32 KB
// of it in flight, more than the 22 KB that latency asks for (3.0 TB/s times 1 us over 132 multiprocessors).
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/loads.h"
#include "kernels/device.h"

namespace lathe::kernel {

// Where `row` begins: Rows<T>::operator[] is the host's.
template <class T>
__device__ __forceinline__ T* row_of(const Rows<T>& x, int64_t row) {
  return x.data + row * x.stride;
}

// ---- a grid over rows and items of a row ----

template <class F>
__global__ void __launch_bounds__(256) over_grid_kernel(const F f, int64_t rows, int64_t items) {
  const int64_t item = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (item >= items) return;
  for (int64_t row = int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows; row += int64_t{gridDim.y} * blockDim.y)
    f(row, item);
}

// f(row, item) for each, a thread each.
template <class F>
void over_grid(Cuda on, int64_t rows, int64_t items, const F& f) {
  if (rows == 0 || items == 0) return;
  unsigned wide = 1;  // threads along the items of a row
  while (wide < 256 && wide < items) wide *= 2;
  const unsigned high = 256 / wide;
  const dim3 grid(blocks_of(items, wide), static_cast<unsigned>(std::min<int64_t>(ceil_divide(rows, high), 65535)));
  LAUNCH((over_grid_kernel<F>), grid, dim3(wide, high), 0, on.stream, f, rows, items);
}

// ---- y = f(x...), element by element ----

template <bool kVector, class F, class T, int kInputs>
struct MapFours {
  F f;
  Rows<T> y;
  Rows<const T> x[kInputs == 0 ? 1 : kInputs];
  int64_t n;

  __device__ void operator()(int64_t row, int64_t item) const {
    const int64_t i = 4 * item, left = n - i;
    Four in[kInputs == 0 ? 1 : kInputs], out;
#pragma unroll
    for (int k = 0; k < kInputs; ++k) in[k] = load_four<kVector>(row_of(x[k], row) + i, left);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if constexpr (kInputs == 0) out.v[j] = f();
      if constexpr (kInputs == 1) out.v[j] = f(in[0].v[j]);
      if constexpr (kInputs == 2) out.v[j] = f(in[0].v[j], in[1].v[j]);
    }
    store_four<kVector>(row_of(y, row) + i, out, left);
  }
};

// y (rows, n) = f(x...) with no input, one or two. y may be an input.
template <class F, class T, class... Input>
void map_rows(Cuda on, Rows<T> y, int64_t rows, int64_t n, const F& f, const Input&... x) {
  if (y.stride == n && ((x.stride == n) && ...)) n *= rows, rows = 1;  // one long row
  const bool many = rows > 1;
  const auto aligned = [&](const auto& a) { return many ? fours_aligned(a) : fours_aligned(a.data); };
  const int64_t items = ceil_divide(n, 4);
  if (aligned(y) && (aligned(x) && ...))
    over_grid(on, rows, items, MapFours<true, F, T, sizeof...(Input)>{f, y, {x...}, n});
  else
    over_grid(on, rows, items, MapFours<false, F, T, sizeof...(Input)>{f, y, {x...}, n});
}

}  // namespace lathe::kernel
