// How a page of the key-value cache lies on a GPU. The layout belongs to the device: here keys and values alike are
// [Hk][16][D], a token's head contiguous, so that neighbouring threads read neighbouring components of either. Of one
// key-value head a page has, one after the other, its elements and, in q8_0, its scales:
//   [16][D] elements, [16][blocks] f16 scales
// with blocks of 32 components, the last one short; page_head_bytes (kernels/paged_attention.h) of them, a multiple of
// 16 in every dtype.
#pragma once
#include "kernels/cuda/attention_tiles.h"

namespace lathe::kernel::head_tiles {

__device__ __forceinline__ float to_float(int8_t x) { return static_cast<float>(x); }
using kernel::to_float;

// Keys, or values, of one sequence and key-value head, by position.
struct PagedRows {
  const uint8_t* head;  // in page 0
  int64_t page_stride;
  const int32_t* table;  // of the sequence
  DType dtype;
  int dim;
  bool aligned;  // a page's heads begin at 16 bytes

  __device__ PagedRows(const void* pages, const CacheLayer& layer, const int32_t* pages_of_sequence, int64_t kv_head,
                       int64_t head_bytes, int head_dim)
      : head(static_cast<const uint8_t*>(pages) + kv_head * head_bytes),
        page_stride(layer.page_stride),
        table(pages_of_sequence),
        dtype(layer.dtype),
        dim(head_dim),
        aligned(reinterpret_cast<uintptr_t>(pages) % 16 == 0 && layer.page_stride % 16 == 0) {}

  __device__ __forceinline__ const uint8_t* page_of(int key) const {
    return head + table[key / kPageTokens] * page_stride;
  }
  template <class E>
  __device__ __forceinline__ const E* at(int key) const {
    return reinterpret_cast<const E*>(page_of(key)) + key % kPageTokens * dim;
  }

  // As HeadRows::load; pages that no key of [begin, end) lies in are not looked at.
  template <int kCount>
  __device__ __forceinline__ void load(float4 (*to)[kQuads], int first, int begin, int end, int piece) const {
    switch (dtype) {
      case DType::f32: return load_as<float, kCount>(to, first, begin, end, piece);
      case DType::f16: return load_as<f16, kCount>(to, first, begin, end, piece);
      case DType::bf16: return load_as<bf16, kCount>(to, first, begin, end, piece);
      default: return load_as<int8_t, kCount>(to, first, begin, end, piece);
    }
  }

 private:
  template <class E, int kCount>
  __device__ __forceinline__ void load_as(float4 (*to)[kQuads], int first, int begin, int end, int piece) const {
    constexpr int kSize = Pack<E>::size, kPacks = kPiece / kSize;
    const bool vectors = aligned && dim % kSize == 0;
#pragma unroll 2
    for (int i = static_cast<int>(threadIdx.x); i < kCount * kPacks; i += kTileThreads) {
      const int key = first + i / kPacks, d = piece + i % kPacks * kSize;
      float x[kSize] = {};
      if (key >= begin && key < end && d < dim) {
        const E* from = at<E>(key) + d;
        if (vectors) {
          const Pack<E> pack = load_pack(from);
#pragma unroll
          for (int e = 0; e < kSize; ++e) x[e] = to_float(pack.v[e]);
        } else {
#pragma unroll
          for (int e = 0; e < kSize; ++e)
            if (d + e < dim) x[e] = to_float(from[e]);
        }
        if constexpr (std::is_same_v<E, int8_t>) {
          const int blocks = ceil_divide(dim, kCacheBlock);
          const int token = key % kPageTokens;
          const f16* scales = reinterpret_cast<const f16*>(page_of(key) + kPageTokens * dim);
          const float scale = to_float(scales[token * blocks + d / kCacheBlock]);
#pragma unroll
          for (int e = 0; e < kSize; ++e) x[e] = product(x[e], scale);
        }
      }
#pragma unroll
      for (int e = 0; e < kSize; e += 4)
        to[i / kPacks][(i % kPacks * kSize + e) / 4] = make_float4(x[e], x[e + 1], x[e + 2], x[e + 3]);
    }
  }
};

// One token's head, dim floats at `from`, into its place in a page whose head begins at `head`; by a warp. q8_0 rounds
// as on the CPU: to nearest under the scale as it is stored, the largest magnitude / 127 in f16; what is not finite
// makes the scale NaN.
__device__ inline void write_head(uint8_t* head, DType dtype, int token, const float* from, int dim) {
  const int lane = static_cast<int>(threadIdx.x) % 32, blocks = ceil_divide(dim, kCacheBlock);
  for (int block = 0; block < blocks; ++block) {
    const int d = block * kCacheBlock + lane, at = token * dim + d;
    const bool exists = d < dim;
    const float x = exists ? from[d] : 0.0f;
    if (dtype == DType::q8_0) {
      const float most = warp_max(fabsf(x));
      const bool finite = __all_sync(kAllLanes, fabsf(x) < INFINITY);
      const f16 scale = to_f16(finite ? most / 127.0f : NAN);
      const float stored = to_float(scale), inverse = stored > 0.0f ? 1.0f / stored : 0.0f;
      const float rounded = rintf(fminf(fmaxf(x * inverse, -127.0f), 127.0f));
      if (exists) reinterpret_cast<int8_t*>(head)[at] = finite ? static_cast<int8_t>(rounded) : int8_t{0};
      if (lane == 0) reinterpret_cast<f16*>(head + kPageTokens * dim)[token * blocks + block] = scale;
    } else if (exists) {
      if (dtype == DType::f32) reinterpret_cast<float*>(head)[at] = x;
      if (dtype == DType::f16) reinterpret_cast<f16*>(head)[at] = to_f16(x);
      if (dtype == DType::bf16) reinterpret_cast<bf16*>(head)[at] = to_bf16(x);
    }
  }
}

}  // namespace lathe::kernel::head_tiles
