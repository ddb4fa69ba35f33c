// The packed form of a weight matrix, the same for every instruction set.
//
// Rows are taken in groups of 16, one vector lane a row; the groups lie one after another, and each is ONE linear
// stream (four streams at once lose a quarter of the read bandwidth). Missing rows of the last group are zeros.
//
//   f32   [k][16] f32                  f16   [k][16] f16
//   bf16  [k / 2][16][2] bf16          pairs, for the dot product instruction
//   q8_0  per 32 columns: 8 words, then 16 f16 scales            544 bytes
//   q4_0  per 32 columns: 4 words, then 16 f16 scales            288 bytes
//   q4_1  per 32 columns: 4 words, then 16 f16 scales and 16 f16 minima   320 bytes
//
// A word is [16 rows][4 bytes]: byte j of lane r in word i is column 4 i + j of row r. Bytes of q8_0 are offset by 128,
// so that they are unsigned. In the 4-bit formats word i holds columns 4 i in its low and 16 + 4 i in its high nibbles:
// lane r is 4 bytes of the file's block as they stand, and packing only transposes. Quantised forms are not larger
// than the file's. Plain ones are padded by a zero column when K is odd.
//
// Everything here is constexpr or static: ISA translation units include it (see simd_avx512.h).
#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace lathe::cpu {

inline constexpr int kGroupRows = 16;
inline constexpr int kBlockColumns = 32;
inline constexpr int kWordBytes = 64;  // one word of a group: 16 rows, 4 bytes each

template <DType kType>
struct QuantisedLayout {
  static constexpr bool kEightBits = kType == DType::q8_0;
  static constexpr bool kHasMinimum = kType == DType::q4_1;
  static constexpr int kOffset = kType == DType::q8_0   ? 128
                                 : kType == DType::q4_0 ? 8
                                                        : 0;  // stored q means q - offset
  static constexpr int kWords = kEightBits ? 8 : 4;
  static constexpr int kScaleAt = kWords * kWordBytes;
  static constexpr int kMinimumAt = kScaleAt + 2 * kGroupRows;
  static constexpr int kBytes = kScaleAt + (kHasMinimum ? 4 : 2) * kGroupRows;
};

static inline int64_t even(int64_t columns) { return (columns + 1) / 2 * 2; }

// Bytes of one group of 16 rows.
static inline int64_t group_bytes(DType dtype, int64_t columns) {
  switch (dtype) {
    case DType::f32: return even(columns) * 4 * kGroupRows;
    case DType::f16:
    case DType::bf16: return even(columns) * 2 * kGroupRows;
    case DType::q8_0: return columns / kBlockColumns * QuantisedLayout<DType::q8_0>::kBytes;
    case DType::q4_0: return columns / kBlockColumns * QuantisedLayout<DType::q4_0>::kBytes;
    case DType::q4_1: return columns / kBlockColumns * QuantisedLayout<DType::q4_1>::kBytes;
    case DType::f64:
    case DType::i32: break;
  }
  return 0;
}

static inline int64_t row_groups(int64_t rows) { return (rows + kGroupRows - 1) / kGroupRows; }

}  // namespace lathe::cpu
