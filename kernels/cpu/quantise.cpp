// Rows in the storage dtypes: widening to f32, and rounding from it. The block formats are GGUF's; the roundings are
// those of ggml's reference quantiser, so that files agree byte for byte.
//
// One core of a Sapphire Rapids class Xeon, million values a second (for loading with --quantize; rows run in
// parallel): q8_0 178, q4_0 308, q4_1 299, q5_0 198, q5_1 191; by search (quantise_k.cpp) q4_k 7.5, q5_k 7.5, q6_k 17.
#include "kernels/quantise.h"

#include <cmath>
#include <cstring>

#include "kernels/cpu/block_formats.h"
#include "kernels/cpu/quantise_k.h"
#include "tensor/errors.h"

namespace lathe::cpu {
namespace {

constexpr int kBlock = 32;

uint16_t half_at(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}
void put_half(uint8_t* p, uint16_t h) { std::memcpy(p, &h, 2); }

// Whether a half's exponent, the bits of `exponent`, is that of infinity and of NaN.
bool not_finite(uint16_t half, uint16_t exponent) { return (half & exponent) == exponent; }
constexpr uint16_t kExponentOfF16 = 0x7c00, kExponentOfBf16 = 0x7f80;

bool blocks_hold(const uint8_t* p, const float* x, DType dtype, int64_t columns) {
  // What reaches furthest: the largest scale, times 127 and 32 (Q6_K). NaN compares false.
  constexpr float kFurthest = 65504.0f * 127 * 32;
  bool held = true;
  for (int64_t i = 0; i < columns; ++i) held &= std::fabs(x[i]) <= kFurthest;
  with_quantised(dtype, [&](auto type) {
    using B = Block<decltype(type)::value>;
    for (int64_t i = 0; i < columns; i += B::kSize, p += B::kBytes) {
      B block;
      read_block(block, p);
      held &= !not_finite(block.factor, kExponentOfF16) && !not_finite(block.base, kExponentOfF16);
    }
  });
  return held;
}

// To a quant in [0, most]; NaN becomes 0. Truncation after adding a half is ggml's rounding.
uint8_t clamp_quant(float v, int most) {
  if (!(v > 0)) return 0;
  return v >= static_cast<float>(most) ? static_cast<uint8_t>(most) : static_cast<uint8_t>(v);
}

void quantise_q8_0(uint8_t* block, const float* x) {
  float amax = 0;
  for (int i = 0; i < kBlock; ++i) amax = std::fmax(amax, std::fabs(x[i]));
  const float scale = amax / 127.0f, inverse = scale != 0 ? 1.0f / scale : 0.0f;
  put_half(block, f32_to_f16(scale));
  for (int i = 0; i < kBlock; ++i) {
    const float rounded = std::round(x[i] * inverse);
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::fmax(-127.0f, std::fmin(127.0f, rounded))));
  }
}
void quantise_q4_0(uint8_t* block, const float* x) {
  float most = 0;  // the value of largest magnitude, with its sign: it becomes exactly -8
  for (int i = 0; i < kBlock; ++i)
    if (std::fabs(x[i]) > std::fabs(most)) most = x[i];
  const float scale = most / -8.0f, inverse = scale != 0 ? 1.0f / scale : 0.0f;
  put_half(block, f32_to_f16(scale));
  for (int i = 0; i < kBlock / 2; ++i) {
    const uint8_t low = clamp_quant(x[i] * inverse + 8.5f, 15);
    const uint8_t high = clamp_quant(x[i + kBlock / 2] * inverse + 8.5f, 15);
    block[2 + i] = static_cast<uint8_t>(low | high << 4);
  }
}
void quantise_q4_1(uint8_t* block, const float* x) {
  float least = x[0], most = x[0];
  for (int i = 1; i < kBlock; ++i) {
    least = std::fmin(least, x[i]);
    most = std::fmax(most, x[i]);
  }
  const float scale = (most - least) / 15.0f, inverse = scale != 0 ? 1.0f / scale : 0.0f;
  put_half(block, f32_to_f16(scale));
  put_half(block + 2, f32_to_f16(least));
  for (int i = 0; i < kBlock / 2; ++i) {
    const uint8_t low = clamp_quant((x[i] - least) * inverse + 0.5f, 15);
    const uint8_t high = clamp_quant((x[i + kBlock / 2] - least) * inverse + 0.5f, 15);
    block[4 + i] = static_cast<uint8_t>(low | high << 4);
  }
}

}  // namespace
}  // namespace lathe::cpu

namespace lathe {
using namespace cpu;

void dequantise_row(float* y, const void* row, DType dtype, int64_t columns) {
  check(columns % info(dtype).block_size == 0, "dequantise_row", "{} columns, expected a multiple of {} for {}",
        columns, info(dtype).block_size, name(dtype));
  const uint8_t* p = static_cast<const uint8_t*>(row);
  switch (dtype) {
    case DType::f32: std::memcpy(y, p, static_cast<size_t>(columns) * 4); return;
    case DType::bf16:
      for (int64_t i = 0; i < columns; ++i) y[i] = bf16_to_f32(half_at(p + 2 * i));
      return;
    case DType::f16:
      for (int64_t i = 0; i < columns; ++i) y[i] = f16_to_f32(half_at(p + 2 * i));
      return;
    default: break;
  }
  check(is_quantised(dtype), "dequantise_row", "{} rows are not widened to f32", name(dtype));
  with_quantised(dtype, [&](auto type) {
    using B = Block<decltype(type)::value>;
    for (int64_t i = 0; i < columns; i += B::kSize, p += B::kBytes) dequantise_block<decltype(type)::value>(y + i, p);
  });
}

void quantise_row(void* row, const float* x, DType dtype, int64_t columns) {
  check(columns % info(dtype).block_size == 0, "quantise_row", "{} columns, expected a multiple of {} for {}", columns,
        info(dtype).block_size, name(dtype));
  uint8_t* p = static_cast<uint8_t*>(row);
  switch (dtype) {
    case DType::f32: std::memcpy(p, x, static_cast<size_t>(columns) * 4); return;
    case DType::bf16:
      for (int64_t i = 0; i < columns; ++i) put_half(p + 2 * i, f32_to_bf16(x[i]));
      return;
    case DType::f16:
      for (int64_t i = 0; i < columns; ++i) put_half(p + 2 * i, f32_to_f16(x[i]));
      return;
    default: break;
  }
  using QuantiseBlock = void (*)(uint8_t * block, const float* x);
  const auto quantise_block = [dtype]() -> QuantiseBlock {
    switch (dtype) {
      case DType::q8_0: return quantise_q8_0;
      case DType::q4_0: return quantise_q4_0;
      case DType::q4_1: return quantise_q4_1;
      case DType::q5_0: return quantise_q5_0;
      case DType::q5_1: return quantise_q5_1;
      case DType::q4_k: return quantise_q4_k;
      case DType::q5_k: return quantise_q5_k;
      case DType::q6_k: return quantise_q6_k;
      case DType::iq4_nl: return quantise_iq4_nl;
      case DType::iq4_xs: return quantise_iq4_xs;
      default: return nullptr;
    }
  }();
  check(quantise_block != nullptr, "quantise_row", "f32 rows are not rounded to {}", name(dtype));
  for (int64_t i = 0; i < columns; i += info(dtype).block_size, p += info(dtype).block_bytes) quantise_block(p, x + i);
}

bool row_holds(const void* row, const float* x, DType dtype, int64_t columns) {
  const uint8_t* p = static_cast<const uint8_t*>(row);
  if (is_quantised(dtype)) return blocks_hold(p, x, dtype, columns);
  if (dtype != DType::f16 && dtype != DType::bf16) return true;
  const uint16_t exponent = dtype == DType::f16 ? kExponentOfF16 : kExponentOfBf16;
  bool held = true;
  for (int64_t i = 0; i < columns; ++i) held &= !not_finite(half_at(p + 2 * i), exponent);
  return held;
}

}  // namespace lathe
