// The packed form of a weight matrix on CUDA: what a lane of a warp reads for mma.sync lies together.
//
// Tiles of 16 rows x 64 columns; those of 16 rows lie one after another, missing rows and columns are zeros. Lane
// 4 g + t holds of rows g and g + 8 the columns 32 s + 8 t + j, s < 2, j < 8: element e = 16 s + 8 h + j is that of row
// g + 8 h. In that order of columns both steps of 16 that m16n8k16 takes of half a tile are in the lane's registers,
// and eight columns of a token are one read of 16 bytes.
//
//   tile = low bits, high bits, scales: each plane by lanes, 16 bytes (or the 4 or 8 that there are) a lane at a time
//   f32        32 words a lane          word e
//   f16, bf16  16 words                 half e
//   low 8      8 words                  byte e
//   low 4      4 words                  nibble j of word 2 s + h
//   low 2, high 2   2 words             bits 2 (8 h + j) of word s
//   high 1     1 word                   bit e
//   scales     a row's, 4 bytes: two f16 (q8_0, q4_0, q5_0, iq4_nl), two scales and two minima of 8 bits (q4_k, q5_k),
//   two
//              scales (iq4_xs), four (q3_k, q6_k) or pairs of nibbles (q2_k); 8 bytes: two f16 and two f16 minima
//              (q4_1, q5_1)
//
// In the formats of 256 columns a head stands before every fourth tile: a row's f16 factors of scales and of minima. An
// element is (q - offset) * scale (+ minimum), with the offsets and bits of kernels/cpu/packed_layout.h. q * scale has
// 24 bits at most where there is a minimum, so that a fused addition rounds as a separate one does. Bytes an element,
// with the file's: q8_0 1.063 (1.063), q4_0 0.563 (0.563), q4_1 0.625 (0.625), q4_k 0.578 (0.563), q6_k 0.828 (0.820),
// iq4_nl 0.563 (0.563), iq4_xs 0.578 (0.531).
#pragma once
#include "kernels/cpu/packed_layout.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/table_numbers.h"

namespace lathe::kernel::packed {

inline constexpr int kGroupRows = 16, kTileColumns = 64;

template <DType kType>
struct Format {
  using Bits = cpu::QuantisedLayout<kType>;
  static constexpr bool kQuantised = is_quantised(kType);
  static constexpr int kLowBits = kType == DType::f32 ? 32 : !kQuantised ? 16 : Bits::kLowBits;
  static constexpr int kHighBits = kQuantised ? Bits::kHighBits : 0;
  static constexpr bool kHasHead = kQuantised && Bits::kIsK;
  static constexpr int kScaleWords = !kQuantised ? 0 : !Bits::kIsK && Bits::kHasMinimum ? 2 : 1;  // of a row
  static constexpr int kLowWords = kLowBits, kHighWords = kHighBits;                              // of a lane

  static constexpr int kHighAt = kLowWords * 128, kScalesAt = kHighAt + kHighWords * 128;
  static constexpr int kTileBytes = kScalesAt + kScaleWords * 4 * kGroupRows;
  static constexpr int kHeadBytes = kHasHead ? 4 * kGroupRows : 0;

  // Where a tile of a group of rows begins, and the head before it.
  static __host__ __device__ constexpr int head_at(int tile) { return tile / 4 * (kHeadBytes + 4 * kTileBytes); }
  static __host__ __device__ constexpr int tile_at(int tile) {
    return kHasHead ? head_at(tile) + kHeadBytes + tile % 4 * kTileBytes : tile * kTileBytes;
  }
  // The byte of word `word` of `words` of a lane in a plane.
  static __host__ __device__ constexpr int word_at(int words, int word, int lane) {
    const int run = words < 4 ? words : 4;
    return (word / run * 32 + lane) * run * 4 + word % run * 4;
  }
};
static_assert(Format<DType::q4_k>::kLowWords == 4 && Format<DType::q8_0>::kLowWords == 8);
static_assert(Format<DType::bf16>::kTileBytes == 2048 && Format<DType::q8_0>::kTileBytes == 1088);

inline int64_t tiles_of(int64_t columns) { return ceil_divide(columns, kTileColumns); }
inline int64_t groups_of(int64_t rows) { return ceil_divide(rows, kGroupRows); }
template <DType kType>
int64_t group_bytes(int64_t columns) {
  return Format<kType>::tile_at(static_cast<int>(tiles_of(columns)));
}

// The words of `kWords` that a lane has in a plane.
template <int kWords>
__device__ __forceinline__ void load_plane(uint32_t* to, const uint8_t* plane, int lane) {
  if constexpr (kWords == 1) to[0] = reinterpret_cast<const uint32_t*>(plane)[lane];
  if constexpr (kWords == 2) {
    const uint2 v = reinterpret_cast<const uint2*>(plane)[lane];
    to[0] = v.x, to[1] = v.y;
  }
#pragma unroll
  for (int i = 0; i < kWords / 4; ++i) {
    const uint4 v = reinterpret_cast<const uint4*>(plane)[i * 32 + lane];
    to[4 * i] = v.x, to[4 * i + 1] = v.y, to[4 * i + 2] = v.z, to[4 * i + 3] = v.w;
  }
}

__device__ __forceinline__ float half_of(uint32_t word, int which) {
  return to_float(f16{static_cast<uint16_t>(word >> (16 * which))});
}
// q - offset without a conversion, whose rate is a quarter: 2^23 + q is exact.
__device__ __forceinline__ float minus_offset(uint32_t q, int offset) {
  return __uint_as_float(0x4b000000u | q) - (8388608.0f + static_cast<float>(offset));
}

// What a lane holds of one tile.
template <DType kType>
struct Tile {
  using F = Format<kType>;
  using Bits = typename F::Bits;
  uint32_t low[F::kLowWords], high[F::kHighWords + 1], scales[2][F::kScaleWords + 1], head[2];

  __device__ __forceinline__ void load(const uint8_t* group, int tile, int lane) {
    const uint8_t* at = group + F::tile_at(tile);
    load_plane<F::kLowWords>(low, at, lane);
    load_plane<F::kHighWords>(high, at + F::kHighAt, lane);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = lane / 4 + 8 * h;
      if constexpr (F::kScaleWords > 0) {
        const uint32_t* words = reinterpret_cast<const uint32_t*>(at + F::kScalesAt) + row * F::kScaleWords;
#pragma unroll
        for (int i = 0; i < F::kScaleWords; ++i) scales[h][i] = words[i];
      }
      if constexpr (F::kHasHead) head[h] = reinterpret_cast<const uint32_t*>(group + F::head_at(tile))[row];
    }
  }

  // The scale and the minimum of columns 32 s + 8 t ... of row g + 8 h.
  __device__ __forceinline__ void scale_of(float& scale, float& minimum, int s, int h, int t) const {
    minimum = 0.0f;
    if constexpr (!F::kHasHead) {
      scale = half_of(scales[h][0], s);
      if constexpr (Bits::kHasMinimum) minimum = half_of(scales[h][1], s);
    } else {
      const int run = Bits::kRun == 16 ? 2 * s + t / 2 : s;
      const uint32_t byte = scales[h][0] >> (8 * run) & 255;
      if constexpr (!Bits::kHasMinimum)
        scale = half_of(head[h], 0) * static_cast<float>(static_cast<int8_t>(byte));
      else
        scale = half_of(head[h], 0) * minus_offset(Bits::kNibbleScales ? byte & 15 : byte, 0);
      if constexpr (Bits::kHasMinimum)
        minimum = -(half_of(head[h], 1) *
                    minus_offset(Bits::kNibbleScales ? byte >> 4 : scales[h][0] >> (8 * run + 16) & 255, 0));
    }
  }

  __device__ __forceinline__ uint32_t quant(int s, int h, int j) const {
    const int e = 16 * s + 8 * h + j;
    uint32_t q;
    if constexpr (F::kLowBits == 8)
      q = low[e / 4] >> (8 * (e % 4)) & 255;
    else if constexpr (F::kLowBits == 4)
      q = Bits::kHasTable ? look_up_four(low[2 * s + h] >> (4 * (j & 4))) >> (8 * (j & 3)) & 255
                          : low[2 * s + h] >> (4 * j) & 15;
    else
      q = low[s] >> (2 * (8 * h + j)) & 3;
    if constexpr (F::kHighBits == 1) q |= (high[0] >> e & 1) << F::kLowBits;
    if constexpr (F::kHighBits == 2) q |= (high[s] >> (2 * (8 * h + j)) & 3) << F::kLowBits;
    return q;
  }

  // w[h][j] = the element of row g + 8 h and column 32 s + 8 t + j.
  __device__ __forceinline__ void widen(float (&w)[2][8], int s, int t) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if constexpr (F::kQuantised) {
        float scale, minimum;
        scale_of(scale, minimum, s, h, t);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const float q = minus_offset(quant(s, h, j), Bits::kOffset);
          w[h][j] = Bits::kHasMinimum ? fmaf(q, scale, minimum) : q * scale;
        }
      } else {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const int e = 16 * s + 8 * h + j;
          if constexpr (kType == DType::f32) {
            w[h][j] = __uint_as_float(low[e]);
          } else {
            const auto bits = static_cast<uint16_t>(low[e / 2] >> (16 * (e % 2)));
            w[h][j] = kType == DType::bf16 ? to_float(bf16{bits}) : to_float(f16{bits});
          }
        }
      }
    }
  }

  // The same in bf16, two columns a word.
  __device__ __forceinline__ void round(uint32_t (&w)[2][4], int s, int t) const {
    if constexpr (kType == DType::bf16) {
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < 4; ++i) w[h][i] = low[8 * s + 4 * h + i];
    } else {
      float wide[2][8];
      widen(wide, s, t);
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < 4; ++i) w[h][i] = pack_bf16(wide[h][2 * i], wide[h][2 * i + 1]);
    }
  }
};

}  // namespace lathe::kernel::packed
