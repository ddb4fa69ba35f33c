// Four elements at a time, moved by one instruction where they are aligned.
#pragma once
#include "kernels/cuda/gpu.h"

namespace lathe::kernel {

using Four = Pack<float>;

// Four elements of T where they lie.
template <class T>
struct alignas(4 * sizeof(T)) StoredFour {
  T v[4];
};

// The four elements from p on, of which `left` exist; zeros for the others. kVector: p is aligned to four.
template <bool kVector, class T>
__device__ __forceinline__ Four load_four(const T* p, int64_t left) {
  Four y;
  if (kVector && left >= 4) {
    const StoredFour<T> x = *reinterpret_cast<const StoredFour<T>*>(p);
#pragma unroll
    for (int j = 0; j < 4; ++j) y.v[j] = to_float(x.v[j]);
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) y.v[j] = j < left ? to_float(p[j]) : 0.0f;
  }
  return y;
}
template <bool kVector, class T>
__device__ __forceinline__ void store_four(T* p, const Four& y, int64_t left) {
  StoredFour<T> x;
#pragma unroll
  for (int j = 0; j < 4; ++j) x.v[j] = from_float<T>(y.v[j]);
  if (kVector && left >= 4) {
    *reinterpret_cast<StoredFour<T>*>(p) = x;
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (j < left) p[j] = x.v[j];
  }
}

// The same where only the call knows whether p is aligned.
template <class T>
__device__ __forceinline__ Four load_some(const T* p, int64_t left, bool aligned) {
  return aligned && left >= 4 ? load_four<true>(p, 4) : load_four<false>(p, left);
}
template <class T>
__device__ __forceinline__ void store_some(T* p, const Four& y, int64_t left, bool aligned) {
  if (aligned && left >= 4)
    store_four<true>(p, y, 4);
  else
    store_four<false>(p, y, left);
}

// Whether four elements may be moved at once from p on, or from where each row begins; from null they may.
template <class T>
__host__ __device__ __forceinline__ bool fours_aligned(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % (4 * sizeof(T)) == 0;
}
template <class T>
__host__ __device__ __forceinline__ bool fours_aligned(const Rows<T>& x) {
  return fours_aligned(x.data) && x.stride % 4 == 0;
}
__device__ __forceinline__ bool rows_aligned(const float* x, int64_t stride) {
  return fours_aligned(x) && stride % 4 == 0;
}

}  // namespace lathe::kernel
