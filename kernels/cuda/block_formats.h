// Elements of stored rows on a CUDA device: plain types, and the block formats of GGUF one element at a time (layouts
// and arithmetic: kernels/cpu/block_formats.h). For gathers and conversions, where the bytes of a block come from the
// first-level cache; products unpack words of their own.
#pragma once
#include "kernels/cpu/packed_layout.h"
#include "kernels/cuda/over_grid.h"

namespace lathe::kernel {

__device__ __forceinline__ float half_at(const uint8_t* p) { return to_float(*reinterpret_cast<const f16*>(p)); }

template <DType kType>
inline constexpr int kBlockSize = info(kType).block_size;
template <DType kType>
inline constexpr int kBlockBytes = info(kType).block_bytes;

// Element i of the block at p. Blocks lie at even addresses.
template <DType kType>
__device__ __forceinline__ float block_element(const uint8_t* p, int i) {
  using Layout = cpu::QuantisedLayout<kType>;
  int q = 0, scale = 1, minimum = 1;
  float factor = 0.0f, base = 0.0f;
  if constexpr (kType == DType::q8_0) {
    return half_at(p) * static_cast<float>(static_cast<int8_t>(p[2 + i]));
  } else if constexpr (!Layout::kIsK) {
    constexpr int kHigh = Layout::kHasMinimum ? 4 : 2, kLow = kHigh + (Layout::kHighBits > 0 ? 4 : 0);
    q = p[kLow + i % 16] >> (i / 16 * 4) & 15;
    if constexpr (Layout::kHighBits > 0) q |= (p[kHigh + i / 8] >> i % 8 & 1) << 4;
    factor = half_at(p);
    if constexpr (Layout::kHasMinimum) base = half_at(p + 2);
  } else if constexpr (kType == DType::q4_k || kType == DType::q5_k) {
    const int run = i / 32;
    q = p[(kType == DType::q4_k ? 16 : 48) + i / 64 * 32 + i % 32] >> (run % 2 * 4) & 15;
    if constexpr (kType == DType::q5_k) q |= (p[16 + i % 32] >> run & 1) << 4;
    const uint8_t* s = p + 4;
    scale = run < 4 ? s[run] & 63 : (s[run + 4] & 15) | (s[run - 4] >> 6) << 4;
    minimum = run < 4 ? s[run + 4] & 63 : (s[run + 4] >> 4) | (s[run] >> 6) << 4;
    factor = half_at(p);
    base = half_at(p + 2);
  } else if constexpr (kType == DType::q6_k) {
    const int half = i / 128, group = i / 32 % 4;
    q = p[64 * half + group % 2 * 32 + i % 32] >> (group / 2 * 4) & 15;
    q |= (p[128 + 32 * half + i % 32] >> (2 * group) & 3) << 4;
    scale = static_cast<int8_t>(p[192 + i / 16]);
    factor = half_at(p + 208);
  } else if constexpr (kType == DType::q2_k) {
    q = p[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
    scale = p[i / 16] & 15;
    minimum = p[i / 16] >> 4;
    factor = half_at(p + 80);
    base = half_at(p + 82);
  } else {
    static_assert(kType == DType::q3_k);
    q = p[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
    q |= (p[i % 32] >> (i / 32) & 1) << 2;
    const int run = i / 16;
    const int low = run < 8 ? p[96 + run] & 15 : p[88 + run] >> 4, high = p[104 + run % 4] >> (run / 4 * 2) & 3;
    scale = (low | high << 4) - 32;
    factor = half_at(p + 108);
  }
  // Products are exact but the last of a format without minima, so it makes no difference where they are fused.
  const float product = static_cast<float>(q - Layout::kOffset) * (factor * static_cast<float>(scale));
  if constexpr (!Layout::kHasMinimum) return product;
  const float part = base * static_cast<float>(minimum);
  return Layout::kIsK ? product - part : product + part;
}

// Elements i to i + 3 of a row in kType, of which `left` exist; i is a multiple of 4. kVector: the row is aligned to
// four elements of a plain type.
template <DType kType, bool kVector>
__device__ __forceinline__ Four load_stored(const void* row, int64_t i, int64_t left) {
  if constexpr (kType == DType::f32) {
    return load_four<kVector>(static_cast<const float*>(row) + i, left);
  } else if constexpr (kType == DType::bf16) {
    return load_four<kVector>(static_cast<const bf16*>(row) + i, left);
  } else if constexpr (kType == DType::f16) {
    return load_four<kVector>(static_cast<const f16*>(row) + i, left);
  } else {
    constexpr int kSize = kBlockSize<kType>, kBytes = kBlockBytes<kType>;
    const uint8_t* block = static_cast<const uint8_t*>(row) + i / kSize * kBytes;
    Four y;
#pragma unroll
    for (int j = 0; j < 4; ++j) y.v[j] = block_element<kType>(block, static_cast<int>(i % kSize) + j);
    return y;
  }
}

// launch(dtype as a constant) for every dtype whose rows can be widened to f32.
template <class F>
void with_stored(DType dtype, F&& launch) {
  switch (dtype) {
    case DType::f32: return launch(cpu::DTypeConstant<DType::f32>());
    case DType::bf16: return launch(cpu::DTypeConstant<DType::bf16>());
    case DType::f16: return launch(cpu::DTypeConstant<DType::f16>());
    default: return cpu::with_quantised(dtype, launch);
  }
}

// Rows of a stored matrix, copied to rows of f32: row n is row_of_id(n).
template <DType kType, bool kVector>
struct WidenRows {
  float* y;
  const uint8_t* x;
  size_t row_bytes;
  const int32_t* ids;  // null: row n itself
  int64_t columns;

  __device__ void operator()(int64_t row, int64_t item) const {
    const int64_t i = 4 * item, from = ids != nullptr ? ids[row] : row;
    const Four v = load_stored<kType, kVector>(x + static_cast<size_t>(from) * row_bytes, i, columns - i);
    store_four<kVector>(y + row * columns + i, v, columns - i);
  }
};

inline void widen_rows(Cuda on, float* y, const void* x, DType dtype, size_t row_bytes, const int32_t* ids,
                       int64_t rows, int64_t columns) {
  with_stored(dtype, [&](auto type) {
    constexpr DType kType = decltype(type)::value;
    const auto* bytes = static_cast<const uint8_t*>(x);
    const size_t four = is_quantised(kType) ? 1 : 4 * bytes_of(kType, 1);
    const bool aligned =
        columns % 4 == 0 && fours_aligned(y) && reinterpret_cast<uintptr_t>(x) % four == 0 && row_bytes % four == 0;
    if (aligned)
      over_grid(on, rows, ceil_divide(columns, 4), WidenRows<kType, true>{y, bytes, row_bytes, ids, columns});
    else
      over_grid(on, rows, ceil_divide(columns, 4), WidenRows<kType, false>{y, bytes, row_bytes, ids, columns});
  });
}

}  // namespace lathe::kernel
