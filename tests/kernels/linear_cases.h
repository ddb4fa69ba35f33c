// The weights that the linears are tested and timed with: every dtype, any shape, as a file has them and packed.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/packed_linear.h"
#include "kernels/quantise.h"
#include "tests/kernels/kernel_data.h"

namespace lathe::test {

inline constexpr DType kWeightDTypes[] = {DType::f32,  DType::bf16, DType::f16,  DType::q8_0,   DType::q4_0,
                                          DType::q4_1, DType::q5_0, DType::q5_1, DType::q2_k,   DType::q3_k,
                                          DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs};
inline constexpr Arithmetic kArithmetics[] = {Arithmetic::f32, Arithmetic::bf16, Arithmetic::int8, Arithmetic::int16};

inline const char* name(Arithmetic arithmetic) {
  constexpr const char* kNames[] = {"f32", "bf16", "int8", "int16"};
  return kNames[static_cast<int>(arithmetic)];
}

// Where the f16 factors of a block stand.
inline std::vector<size_t> factors_at(DType dtype) {
  switch (dtype) {
    case DType::q8_0:
    case DType::q4_0:
    case DType::q5_0:
    case DType::iq4_nl:
    case DType::iq4_xs: return {0};
    case DType::q2_k: return {80, 82};
    case DType::q3_k: return {108};
    case DType::q6_k: return {208};
    default: return {0, 2};
  }
}

// Blocks of the formats that are only read: any bits will do, but for the f16 factors.
inline void random_blocks(uint8_t* row, DType dtype, int64_t columns, unsigned seed) {
  std::mt19937 random(seed);
  const auto bytes = static_cast<size_t>(info(dtype).block_bytes);
  for (int64_t b = 0; b < columns / info(dtype).block_size; ++b, row += bytes) {
    for (size_t i = 0; i < bytes; ++i) row[i] = static_cast<uint8_t>(random());
    const uint16_t factor = f32_to_f16(0.002f * static_cast<float>(random() % 5 + 1));
    for (const size_t at : factors_at(dtype)) std::memcpy(row + at, &factor, 2);
  }
}

// A matrix of random values as a file has it (`source`) and packed, with a bias. Rows from the 256th on repeat the
// first ones, because quantising to the K formats is slow.
struct Weight {
  static constexpr int64_t kDistinctRows = 256;
  DType dtype;
  int64_t rows, columns;
  std::vector<uint8_t> source;
  std::vector<float> bias;
  Aligned packed;

  Weight(DType type, int64_t n, int64_t k, unsigned seed)
      : dtype(type),
        rows(n),
        columns(k),
        source(static_cast<size_t>(n) * bytes_of(type, k)),
        bias(random_floats(n, seed + 1)),
        packed(kernel::packed_bytes(Cpu{}, type, n, k)) {
    const std::vector<float> values = random_floats(std::min(n, kDistinctRows) * k, seed, 0.05f, 0.01f);
    for (int64_t r = 0; r < n; ++r) {
      if (r >= kDistinctRows)
        std::memcpy(row(r), row(r - kDistinctRows), bytes_of(type, k));
      else if (type == DType::q2_k || type == DType::q3_k)
        random_blocks(row(r), type, k, seed + static_cast<unsigned>(r));
      else
        quantise_row(row(r), values.data() + r * k, type, k);
    }
    kernel::pack(Cpu{}, packed.data(), source.data(), type, n, k);
  }
  uint8_t* row(int64_t r) { return source.data() + static_cast<size_t>(r) * bytes_of(dtype, columns); }
  PackedMatrix matrix() { return {dtype, rows, columns, packed.data()}; }
  // Of the scratch of a product with m tokens.
  size_t scratch_bytes(int64_t m, Arithmetic arithmetic) {
    const LinearPart part{matrix()};
    return kernel::packed_linear_scratch_bytes(Cpu{}, &part, 1, m, arithmetic);
  }
};

inline void multiply(Weight& w, Guarded& y, int64_t ldy, const float* x, int64_t ldx, int64_t m,
                     Arithmetic arithmetic) {
  Aligned scratch(w.scratch_bytes(m, arithmetic));
  const LinearPart part{w.matrix(), w.bias.data(), y.data()};
  kernel::packed_linear(Cpu{}, &part, 1, ldy, {x, ldx}, m, arithmetic, scratch.data());
}

}  // namespace lathe::test
