// Four elements of a row whose end and alignment are not known.
#pragma once
#include "kernels/cuda/gpu.h"

namespace lathe::kernel {

__device__ __forceinline__ bool rows_aligned(const float* x, int64_t stride) {
  return reinterpret_cast<uintptr_t>(x) % 16 == 0 && stride % 4 == 0;
}

// Elements [column, column + 4) of a row of `columns`, zeros behind its end. `column` is a multiple of 4; `aligned`:
// so is the row.
__device__ __forceinline__ Pack<float> load_four(const float* row, int64_t column, int64_t columns, bool aligned) {
  if (aligned && column + 4 <= columns) return load_pack(row + column);
  Pack<float> v = {};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (column + i < columns) v.v[i] = row[column + i];
  return v;
}
__device__ __forceinline__ void store_four(float* row, int64_t column, int64_t columns, bool aligned, Pack<float> v) {
  if (aligned && column + 4 <= columns) return store_pack(row + column, v);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (column + i < columns) row[column + i] = v.v[i];
}

}  // namespace lathe::kernel
