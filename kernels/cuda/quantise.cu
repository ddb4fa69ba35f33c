// Conversions of stored rows on a CUDA device. Limit derived at 3.0 TB/s: the bytes read and written; 256 columns of
// Q4_K are 144 and 1,024 bytes. Not measured yet: no GPU has run it.
#include "kernels/cuda/block_formats.h"
#include "kernels/quantise.h"

namespace lathe::kernel {
namespace {

// To nearest, ties to even; beyond 65504 infinity. As f32_to_f16 (tensor/dtype.h), which is the host's.
__device__ __forceinline__ uint16_t float_to_half(float f) {
  const uint32_t all = __builtin_bit_cast(uint32_t, f), sign = all >> 16 & 0x8000u, bits = all & 0x7fffffffu;
  uint32_t half;
  if (bits > 0x7f800000u)
    half = 0x7e00u;  // NaN
  else if (bits >= 0x477ff000u)
    half = 0x7c00u;
  else if (bits < 0x38800000u)  // subnormal: the ulp of 0.5 is 2^-24, so the addition rounds
    half = __builtin_bit_cast(uint32_t, float_of_bits(bits) + 0.5f) - 0x3f000000u;
  else
    half = (bits - 0x38000000u + 0xfffu + (bits >> 13 & 1u)) >> 13;
  return static_cast<uint16_t>(sign | half);
}
__device__ __forceinline__ uint16_t float_to_bf16(float f) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);  // NaN
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

template <bool kHalf, bool kVector>
struct NarrowRows {
  uint16_t* y;
  const float* x;
  int64_t columns;
  int32_t* lost;

  __device__ void operator()(int64_t row, int64_t item) const {
    constexpr uint32_t kExponent = kHalf ? 0x7c00u : 0x7f80u;  // of infinity and of NaN
    const int64_t i = 4 * item, left = columns - i, at = row * columns + i;
    const Four v = load_four<kVector>(x + at, left);
    StoredFour<uint16_t> out;
    bool held = true;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      out.v[j] = kHalf ? float_to_half(v.v[j]) : float_to_bf16(v.v[j]);
      held &= (out.v[j] & kExponent) != kExponent;
    }
    if (kVector && left >= 4)
      *reinterpret_cast<StoredFour<uint16_t>*>(y + at) = out;
    else
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (j < left) y[at + j] = out.v[j];
    if (!held && lost != nullptr) atomicMin(lost, static_cast<int32_t>(row));
  }
};

}  // namespace

void dequantise_rows(Cuda on, float* y, const void* x, DType dtype, int64_t rows, int64_t columns) {
  widen_rows(on, y, x, dtype, bytes_of(dtype, columns), nullptr, rows, columns);
}

void quantise_rows(Cuda on, void* y, const float* x, DType dtype, int64_t rows, int64_t columns, int32_t* lost) {
  const bool aligned = columns % 4 == 0 && fours_aligned(x) && fours_aligned(static_cast<uint16_t*>(y));
  const auto launch = [&](auto half, auto vector) {
    const NarrowRows<decltype(half)::value, decltype(vector)::value> f{static_cast<uint16_t*>(y), x, columns, lost};
    over_grid(on, rows, ceil_divide(columns, 4), f);
  };
  const auto by_alignment = [&](auto half) {
    aligned ? launch(half, std::true_type()) : launch(half, std::false_type());
  };
  dtype == DType::f16 ? by_alignment(std::true_type()) : by_alignment(std::false_type());
}

}  // namespace lathe::kernel
