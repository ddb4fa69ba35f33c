// Element types. A quantised weight is a dtype of its own, never a second class of tensor.
//
// Block formats are those of GGUF: `block_size` consecutive elements of a row share `block_bytes` bytes.
// f64 exists for the oracles and the gradient checks; no checkpoint and no fast kernel uses it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace lathe {

enum class DType : uint8_t {
  f32,
  f64,
  bf16,
  f16,
  i32,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs
};

struct DTypeInfo {
  std::string_view name;  // as the command line and messages spell it
  int block_size;         // elements in a block; 1 for plain types
  int block_bytes;        // bytes of a block
};

inline constexpr DTypeInfo kDTypes[] = {{"f32", 1, 4},       {"f64", 1, 8},      {"bf16", 1, 2},     {"f16", 1, 2},
                                        {"i32", 1, 4},       {"q8_0", 32, 34},   {"q4_0", 32, 18},   {"q4_1", 32, 20},
                                        {"q5_0", 32, 22},    {"q5_1", 32, 24},   {"q2_k", 256, 84},  {"q3_k", 256, 110},
                                        {"q4_k", 256, 144},  {"q5_k", 256, 176}, {"q6_k", 256, 210}, {"iq4_nl", 32, 18},
                                        {"iq4_xs", 256, 136}};

constexpr const DTypeInfo& info(DType t) { return kDTypes[static_cast<int>(t)]; }
constexpr std::string_view name(DType t) { return info(t).name; }
constexpr bool is_quantised(DType t) { return info(t).block_size > 1; }
// Bytes of `elements` elements that start at a block border; elements must be a multiple of the block size.
constexpr size_t bytes_of(DType t, int64_t elements) {
  return static_cast<size_t>(elements / info(t).block_size) * static_cast<size_t>(info(t).block_bytes);
}

// Elements of 16 bits, which only kernels compute with.
struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};

// Conversions of single values; `static`, so that no translation unit compiled for one instruction set can lend its
// copy to the others at link time.
static inline float bf16_to_f32(uint16_t h) {
  const uint32_t bits = static_cast<uint32_t>(h) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
static inline uint16_t f32_to_bf16(float f) {  // to nearest, ties to even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
static inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 1023u;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
    const float f = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -f : f;
  }
  const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | mantissa << 13;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
static inline uint16_t f32_to_f16(float f) {  // to nearest, ties to even; overflow to infinity
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);   // NaN
  if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to 2^16 or more
  if (bits < 0x38800000u) {                                               // below 2^-14: subnormal
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    const float shifted = magnitude + 0.5f;  // the ulp of 0.5 is 2^-24: the addition does the rounding
    uint32_t rounded;
    std::memcpy(&rounded, &shifted, 4);
    return static_cast<uint16_t>(sign | (rounded - 0x3f000000u));
  }
  const uint32_t odd = (bits >> 13) & 1u;
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u + 0xfffu + odd) >> 13));
}

}  // namespace lathe
