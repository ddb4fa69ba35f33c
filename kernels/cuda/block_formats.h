// Elements of stored rows on a CUDA device: plain types, and the block formats of GGUF one element at a time (layouts
// and arithmetic: kernels/cpu/block_formats.h). For gathers and conversions, where the bytes of a block come from the
// first-level cache; products unpack words of their own.
#pragma once
#include "kernels/cpu/packed_layout.h"
#include "kernels/cuda/over_grid.h"
#include "kernels/cuda/table_numbers.h"

namespace lathe::kernel {

__device__ __forceinline__ float half_at(const uint8_t* p) { return to_float(*reinterpret_cast<const f16*>(p)); }

// Constants, as nvcc does not let a function of the device call `info`.
template <DType kType>
inline constexpr int kBlockSize = info(kType).block_size;
template <DType kType>
inline constexpr int kBlockBytes = info(kType).block_bytes;
// Where a block has its f16 factor; the minimum, or its factor, is behind it.
template <DType kType>
inline constexpr int kFactorAt = kType == DType::q2_k   ? 80
                                 : kType == DType::q3_k ? 108
                                 : kType == DType::q6_k ? 208
                                                        : 0;

// The stored bits of the quant of element i of a block.
template <DType kType>
__device__ __forceinline__ uint32_t quant_in_block(const uint8_t* p, int i) {
  using Layout = cpu::QuantisedLayout<kType>;
  if constexpr (kType == DType::q8_0) {
    return p[2 + i] ^ 0x80u;
  } else if constexpr (!Layout::kIsK) {
    constexpr int kHigh = Layout::kHasMinimum ? 4 : 2, kLow = kHigh + (Layout::kHighBits > 0 ? 4 : 0);
    uint32_t q = i < 16 ? p[kLow + i] & 15u : p[kLow + i - 16] >> 4;
    if constexpr (Layout::kHighBits > 0) q |= (p[kHigh + i / 8] >> (i % 8) & 1u) << 4;
    return q;
  } else if constexpr (kType == DType::q4_k || kType == DType::q5_k) {
    const int chunk = i / 64, column = i % 32, upper = i % 64 / 32;
    uint32_t q = p[(kType == DType::q4_k ? 16 : 48) + 32 * chunk + column] >> (4 * upper) & 15u;
    if constexpr (kType == DType::q5_k) q |= (p[16 + column] >> (2 * chunk + upper) & 1u) << 4;
    return q;
  } else if constexpr (kType == DType::iq4_xs) {
    return p[8 + i / 32 * 16 + i % 16] >> (i % 32 / 16 * 4) & 15u;
  } else if constexpr (kType == DType::q6_k) {
    const int half = i / 128, quarter = i % 128 / 32, column = i % 32;
    const uint32_t low = p[64 * half + quarter % 2 * 32 + column] >> (quarter / 2 * 4) & 15u;
    return low | (p[128 + 32 * half + column] >> (2 * quarter) & 3u) << 4;
  } else {
    const uint32_t q = p[(kType == DType::q2_k ? 16 : 32) + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3u;
    return kType == DType::q2_k ? q : q | (p[i % 32] >> (i / 32) & 1u) << 2;
  }
}

// The byte of the scale of a run in a format of 256 columns (for q2_k the minimum is in it), and of its minimum.
template <DType kType>
__device__ __forceinline__ uint32_t scale_in_block(const uint8_t* p, int run) {
  if constexpr (kType == DType::q2_k) {
    return p[run];
  } else if constexpr (kType == DType::q6_k) {
    return p[192 + run];
  } else if constexpr (kType == DType::q3_k) {
    p += 96;
    const int low = run < 8 ? p[run] & 15 : p[run - 8] >> 4, high = p[8 + run % 4] >> (run / 4 * 2) & 3;
    return static_cast<uint8_t>((low | high << 4) - 32);
  } else if constexpr (kType == DType::iq4_xs) {
    const int low = p[4 + run / 2] >> (run % 2 * 4) & 15, high = p[2 + run / 4] >> (run % 4 * 2) & 3;
    return static_cast<uint8_t>((low | high << 4) - 32);
  } else {
    p += 4;
    return run < 4 ? p[run] & 63u : (p[4 + run] & 15u) | static_cast<uint32_t>(p[run - 4] >> 6) << 4;
  }
}
__device__ __forceinline__ uint32_t minimum_in_block(const uint8_t* p, int run) {
  p += 4;
  return run < 4 ? p[4 + run] & 63u : (p[4 + run] >> 4) | static_cast<uint32_t>(p[run] >> 6) << 4;
}

// Element i of the block at p. Blocks lie at even addresses.
template <DType kType>
__device__ __forceinline__ float block_element(const uint8_t* p, int i) {
  using Layout = cpu::QuantisedLayout<kType>;
  float scale = half_at(p + kFactorAt<kType>), minimum = 0.0f;
  if constexpr (Layout::kHasMinimum) minimum = half_at(p + kFactorAt<kType> + 2);
  if constexpr (Layout::kIsK) {
    const int run = i / Layout::kRun;
    const uint32_t byte = scale_in_block<kType>(p, run);
    if constexpr (!Layout::kHasMinimum) {
      scale *= static_cast<float>(static_cast<int8_t>(byte));
    } else {
      scale *= static_cast<float>(Layout::kNibbleScales ? byte & 15 : byte);
      minimum *= -static_cast<float>(Layout::kNibbleScales ? byte >> 4 : minimum_in_block(p, run));
    }
  }
  // Products are exact but the last of a format without minima, so it makes no difference where they are fused.
  uint32_t q = quant_in_block<kType>(p, i);
  if constexpr (Layout::kHasTable) q = look_up_four(q) & 255;
  const float product = static_cast<float>(static_cast<int>(q) - Layout::kOffset) * scale;
  return Layout::kHasMinimum ? product + minimum : product;
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
  cpu::with_stored(dtype, [&](auto type) {
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
