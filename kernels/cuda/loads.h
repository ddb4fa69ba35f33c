// Four elements of a row whose end and alignment are not known.
#pragma once
#include "kernels/cuda/gpu.h"

namespace lathe::kernel {

__device__ __forceinline__ bool rows_aligned(const float* x, int64_t stride) {
  return reinterpret_cast<uintptr_t>(x) % 16 == 0 && stride % 4 == 0;
}

// Four elements, of which `left` are there: zeros for the others. `aligned`: the address is a multiple of 16.
__device__ __forceinline__ Pack<float> load_some(const float* at, int64_t left, bool aligned) {
  if (aligned && left >= 4) return load_pack(at);
  Pack<float> v = {};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < left) v.v[i] = at[i];
  return v;
}
// Elements [column, column + 4) of a row of `columns`. `column` is a multiple of 4; `aligned`: so is the row.
__device__ __forceinline__ Pack<float> load_four(const float* row, int64_t column, int64_t columns, bool aligned) {
  return load_some(row + column, columns - column, aligned);
}
__device__ __forceinline__ void store_four(float* row, int64_t column, int64_t columns, bool aligned, Pack<float> v) {
  if (aligned && column + 4 <= columns) return store_pack(row + column, v);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (column + i < columns) row[column + i] = v.v[i];
}

}  // namespace lathe::kernel
