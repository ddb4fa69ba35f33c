// The block formats of GGUF, taken apart: one reader for widening a row and for packing it (layouts: ggml-common.h of
// the ggml repository; the arithmetic: its dequantisation functions).
//
//   element i = number_of(q[i]) * (factor * scale[i / run])                        without minimum
//   element i = q[i] * (factor * scale[i / run]) + sign * (base * minimum[i / run])   with one
//
// where the 32-column formats have scale = minimum = 1 and sign +, those of 256 columns scales of 8, 6 or 4 bits and
// sign -. number_of subtracts the offset or looks into the table of IQ4 (packed_layout.h).
#pragma once
#include <cstdint>
#include <cstring>

#include "kernels/cpu/packed_layout.h"

namespace lathe::cpu {

template <DType kType>
struct Block {
  using Layout = QuantisedLayout<kType>;
  static constexpr int kSize = info(kType).block_size, kBytes = info(kType).block_bytes;
  static constexpr int kRuns = kSize / Layout::kRun;

  uint8_t q[kSize];
  uint16_t factor, base = 0;  // f16
  int8_t scale[kRuns];        // formats of 256 columns
  uint8_t minimum[kRuns];
};

// Six bits each, eight scales and eight minima in 12 bytes: the low six bits of bytes 0 to 7 are those of 0 to 3; the
// nibbles of bytes 8 to 11 and the two high bits of bytes 0 to 7 are those of 4 to 7.
static inline void read_six_bit_scales(int8_t* scale, uint8_t* minimum, const uint8_t* p) {
  for (int i = 0; i < 4; ++i) {
    scale[i] = static_cast<int8_t>(p[i] & 63);
    minimum[i] = p[4 + i] & 63;
    scale[4 + i] = static_cast<int8_t>((p[8 + i] & 15) | (p[i] >> 6) << 4);
    minimum[4 + i] = static_cast<uint8_t>((p[8 + i] >> 4) | (p[4 + i] >> 6) << 4);
  }
}

// Sixteen of six bits in 12 bytes: low nibbles in bytes 0 to 7, the high two bits in bytes 8 to 11; 32 means zero.
static inline void read_q3_k_scales(int8_t* scale, const uint8_t* p) {
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? p[i] & 15 : p[i - 8] >> 4, high = p[8 + i % 4] >> (i / 4 * 2) & 3;
    scale[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

template <DType kType>
static inline void read_block(Block<kType>& b, const uint8_t* p) {
  const auto half = [&](int at) {
    uint16_t h;
    std::memcpy(&h, p + at, 2);
    return h;
  };
  if constexpr (kType == DType::q8_0) {
    b.factor = half(0);
    for (int i = 0; i < 32; ++i) b.q[i] = p[2 + i] ^ 0x80;
  } else if constexpr (!Block<kType>::Layout::kIsK) {
    // Scale, minimum where there is one, 32 high bits where there are any, nibbles of column i and 16 + i.
    constexpr int kHigh = Block<kType>::Layout::kHasMinimum ? 4 : 2;
    constexpr int kLow = kHigh + (Block<kType>::Layout::kHighBits > 0 ? 4 : 0);
    b.factor = half(0);
    if constexpr (Block<kType>::Layout::kHasMinimum) b.base = half(2);
    uint32_t high = 0;
    if constexpr (Block<kType>::Layout::kHighBits > 0) std::memcpy(&high, p + kHigh, 4);
    for (int i = 0; i < 16; ++i) {
      b.q[i] = static_cast<uint8_t>((p[kLow + i] & 15) | (high >> i & 1) << 4);
      b.q[16 + i] = static_cast<uint8_t>((p[kLow + i] >> 4) | (high >> (16 + i) & 1) << 4);
    }
  } else if constexpr (kType == DType::q4_k || kType == DType::q5_k) {
    b.factor = half(0);
    b.base = half(2);
    read_six_bit_scales(b.scale, b.minimum, p + 4);
    // 64 columns in 32 bytes: the low nibbles are the first 32. Bit 2 c, 2 c + 1 of high byte i: chunk c, column i.
    const uint8_t *high = p + 16, *low = kType == DType::q4_k ? p + 16 : p + 48;
    for (int c = 0; c < 4; ++c)
      for (int i = 0; i < 32; ++i) {
        int first = 0, second = 0;
        if constexpr (kType == DType::q5_k) first = high[i] >> (2 * c) & 1, second = high[i] >> (2 * c + 1) & 1;
        b.q[64 * c + i] = static_cast<uint8_t>((low[32 * c + i] & 15) | first << 4);
        b.q[64 * c + 32 + i] = static_cast<uint8_t>((low[32 * c + i] >> 4) | second << 4);
      }
  } else if constexpr (kType == DType::q6_k) {
    // 128 columns: 64 bytes of low nibbles, 32 bytes of high bit pairs.
    for (int h = 0; h < 2; ++h) {
      const uint8_t *low = p + 64 * h, *high = p + 128 + 32 * h;
      for (int i = 0; i < 32; ++i) {
        uint8_t* q = b.q + 128 * h + i;
        q[0] = static_cast<uint8_t>((low[i] & 15) | (high[i] & 3) << 4);
        q[32] = static_cast<uint8_t>((low[32 + i] & 15) | (high[i] >> 2 & 3) << 4);
        q[64] = static_cast<uint8_t>((low[i] >> 4) | (high[i] >> 4 & 3) << 4);
        q[96] = static_cast<uint8_t>((low[32 + i] >> 4) | (high[i] >> 6) << 4);
      }
    }
    std::memcpy(b.scale, p + 192, 16);
    b.factor = half(208);
  } else if constexpr (kType == DType::iq4_xs) {
    // Factor, the high two bits of eight scales (16 bits), their low four (4 bytes); then 16 bytes for 32 columns each.
    b.factor = half(0);
    const uint16_t high = half(2);
    for (int r = 0; r < 8; ++r) {
      b.scale[r] = static_cast<int8_t>(((p[4 + r / 2] >> (4 * (r % 2)) & 15) | (high >> (2 * r) & 3) << 4) - 32);
      for (int i = 0; i < 16; ++i) {
        b.q[32 * r + i] = p[8 + 16 * r + i] & 15;
        b.q[32 * r + 16 + i] = p[8 + 16 * r + i] >> 4;
      }
    }
  } else {
    // q2_k: scales (16 bytes), pairs (64 bytes), factors; q3_k: high bits (32 bytes), pairs, scales (12 bytes), factor.
    const uint8_t* pairs = kType == DType::q2_k ? p + 16 : p + 32;
    for (int i = 0; i < 256; ++i) b.q[i] = pairs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    if constexpr (kType == DType::q2_k) {
      for (int i = 0; i < 16; ++i) {
        b.scale[i] = static_cast<int8_t>(p[i] & 15);
        b.minimum[i] = p[i] >> 4;
      }
      b.factor = half(80);
      b.base = half(82);
    } else {
      for (int i = 0; i < 256; ++i) b.q[i] |= static_cast<uint8_t>((p[i % 32] >> (i / 32) & 1) << 2);
      read_q3_k_scales(b.scale, p + 96);
      b.factor = half(108);
    }
  }
}

template <DType kType>
static inline void dequantise_block(float* y, const uint8_t* p) {
  using B = Block<kType>;
  using Layout = typename B::Layout;
  B b;
  read_block<kType>(b, p);
  const float factor = f16_to_f32(b.factor), base = f16_to_f32(b.base);
  for (int r = 0; r < B::kRuns; ++r) {
    // Exact: 11 bits of a factor times 8 of a scale.
    float scale = factor, minimum = base;
    if constexpr (Layout::kIsK) {
      scale = factor * static_cast<float>(b.scale[r]);
      if constexpr (Layout::kHasMinimum) minimum = -(base * static_cast<float>(b.minimum[r]));
    }
    for (int i = r * Layout::kRun; i < (r + 1) * Layout::kRun; ++i) {
      const float product = static_cast<float>(number_of<kType>(b.q[i])) * scale;
      y[i] = Layout::kHasMinimum ? product + minimum : product;
    }
  }
}

}  // namespace lathe::cpu
