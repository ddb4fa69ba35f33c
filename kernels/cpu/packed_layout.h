// The packed form of a weight matrix, the same for every instruction set.
//
// Rows are taken in groups of 16, one vector lane a row; the groups lie one after another, and each is ONE linear
// stream (four streams at once lose a quarter of the read bandwidth). Missing rows of the last group are zeros.
//
//   f32   [k][16] f32          f16   [k][16] f16          bf16  [k / 2][16][2] bf16: pairs, as the file has them
//
// Quantised: an element is (q - offset) * scale, or q * scale + minimum; `q` is kept unsigned, 32 columns at a time, in
// words of [16 rows][4 bytes]: byte j of lane r belongs to column 4 i + j of row r, i < 8.
//
//   low bits, 8   8 words: word i is columns 4 i ...
//   low bits, 4   4 words: word i is columns 4 i in its low and 16 + 4 i in its high nibbles
//   low bits, 2   2 words: bits 2 s of word h are columns 16 h + 4 s
//   high bits, 1  1 word:  bit i of byte j is that of column 4 i + j
//   high bits, 2  2 words, as the low two bits
//
//         bits   offset   a scale for   scales are                   bytes (the file's) a row
//   q8_0  8      128      32            f16                          34 (34) / 32
//   q4_0  4      8        32            f16                          18 (18) / 32
//   q4_1  4      minimum  32            f16, f16 minimum             20 (20) / 32
//   q5_0  4 + 1  16       32            f16                          22 (22) / 32
//   q5_1  4 + 1  minimum  32            f16, f16 minimum             24 (24) / 32
//   q2_k  2      minimum  16            nibbles * f16, the minimum too         84  (84) / 256
//   q3_k  2 + 1  4        16            int8 * f16                   114 (110) / 256
//   q4_k  4      minimum  32            int8 * f16, the minimum too  148 (144) / 256
//   q5_k  4 + 1  minimum  32            int8 * f16, the minimum too  180 (176) / 256
//   q6_k  4 + 2  32       16            int8 * f16                   210 (210) / 256
//   iq4_nl  4    a table  32            f16                          18 (18) / 32
//   iq4_xs  4    a table  32            int8 * f16                   138 (136) / 256
//
// The four bits of iq4_nl and iq4_xs are a place in a table of 16 whole numbers, which stand closer together around
// zero, where most weights are (`kIq4Table`). Looked up while a word is unpacked, they are bytes with the offset
// 128, and what multiplies them is what multiplies q8_0.
//
// In the formats of 256 columns (`kIsK`: the K formats and iq4_xs) these share a head of f16 factors (16 for the
// scales, 16 for the minima), then come 8 blocks of 32 columns; 6-bit scales are widened to bytes, which costs two or
// four bytes and saves the shuffling.
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

// The table of iq4_nl and iq4_xs, 128 added to each number.
alignas(16) static constexpr uint8_t kIq4Table[16] = {128 - 127, 128 - 104, 128 - 83, 128 - 65, 128 - 49, 128 - 35,
                                                      128 - 22,  128 - 10,  128 + 1,  128 + 13, 128 + 25, 128 + 38,
                                                      128 + 53,  128 + 69,  128 + 89, 128 + 113};

template <DType kType>
struct QuantisedLayout {
  static constexpr bool kIsK = info(kType).block_size == 256;
  static constexpr int kLowBits = kType == DType::q8_0 ? 8 : kType == DType::q2_k || kType == DType::q3_k ? 2 : 4;
  static constexpr int kHighBits =
      kType == DType::q6_k                                                                           ? 2
      : kType == DType::q5_0 || kType == DType::q5_1 || kType == DType::q3_k || kType == DType::q5_k ? 1
                                                                                                     : 0;
  static constexpr bool kHasTable = kType == DType::iq4_nl || kType == DType::iq4_xs;
  static constexpr int kStoredBits = kLowBits + kHighBits;
  static constexpr int kBits = kHasTable ? 8 : kStoredBits;  // of q once it is unpacked
  static constexpr bool kHasMinimum = kType == DType::q4_1 || kType == DType::q5_1 || kType == DType::q2_k ||
                                      kType == DType::q4_k || kType == DType::q5_k;
  static constexpr int kOffset = kHasMinimum ? 0 : 1 << (kBits - 1);  // unpacked q means q - offset
  // Columns that share a scale, and runs of them in a block of 32.
  static constexpr int kRun = kType == DType::q2_k || kType == DType::q3_k || kType == DType::q6_k ? 16 : 32;
  static constexpr int kRuns = kBlockColumns / kRun;
  static constexpr bool kNibbleScales = kType == DType::q2_k;  // scale and minimum in one byte

  static constexpr int kHighAt = kLowBits * kWordBytes;
  static constexpr int kScaleAt = kHighAt + kHighBits * kWordBytes;
  static constexpr int kScaleBytes = kIsK ? kGroupRows : 2 * kGroupRows;  // of one run
  static constexpr int kMinimumAt = kScaleAt + kRuns * kScaleBytes;
  static constexpr int kBytes = kMinimumAt + (kHasMinimum && !kNibbleScales ? kRuns * kScaleBytes : 0);

  // A section is what shares a head: 8 blocks of a K format, one block without a head elsewhere.
  static constexpr int kBlocks = kIsK ? 8 : 1;
  static constexpr int kHeadBytes = !kIsK ? 0 : (kHasMinimum ? 4 : 2) * kGroupRows;
  static constexpr int kSectionBytes = kHeadBytes + kBlocks * kBytes;
};

// The whole number that `stored` bits of a quant mean.
template <DType kType>
static inline int number_of(int stored) {
  return (QuantisedLayout<kType>::kHasTable ? kIq4Table[stored] : stored) - QuantisedLayout<kType>::kOffset;
}

static inline int64_t even(int64_t columns) { return (columns + 1) / 2 * 2; }

template <DType kType>
static inline int64_t quantised_group_bytes(int64_t columns) {
  return columns / info(kType).block_size * QuantisedLayout<kType>::kSectionBytes;
}

template <DType kType>
struct DTypeConstant {
  static constexpr DType value = kType;
};
// f(DTypeConstant) for the quantised dtype at hand; other dtypes: nothing.
template <class F>
static inline void with_quantised(DType dtype, F&& f) {
  switch (dtype) {
    case DType::q8_0: return f(DTypeConstant<DType::q8_0>());
    case DType::q4_0: return f(DTypeConstant<DType::q4_0>());
    case DType::q4_1: return f(DTypeConstant<DType::q4_1>());
    case DType::q5_0: return f(DTypeConstant<DType::q5_0>());
    case DType::q5_1: return f(DTypeConstant<DType::q5_1>());
    case DType::q2_k: return f(DTypeConstant<DType::q2_k>());
    case DType::q3_k: return f(DTypeConstant<DType::q3_k>());
    case DType::q4_k: return f(DTypeConstant<DType::q4_k>());
    case DType::q5_k: return f(DTypeConstant<DType::q5_k>());
    case DType::q6_k: return f(DTypeConstant<DType::q6_k>());
    case DType::iq4_nl: return f(DTypeConstant<DType::iq4_nl>());
    case DType::iq4_xs: return f(DTypeConstant<DType::iq4_xs>());
    case DType::f32:
    case DType::f64:
    case DType::bf16:
    case DType::f16:
    case DType::i32: return;
  }
}

// The same for a dtype that a stored matrix can have: f32, bf16, f16 or a quantised one.
template <class F>
static inline void with_stored(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(DTypeConstant<DType::f32>());
    case DType::bf16: return f(DTypeConstant<DType::bf16>());
    case DType::f16: return f(DTypeConstant<DType::f16>());
    default: return with_quantised(dtype, f);
  }
}

// Bytes of one group of 16 rows; 0 for dtypes without a packed form.
static inline int64_t group_bytes(DType dtype, int64_t columns) {
  if (dtype == DType::f32) return even(columns) * 4 * kGroupRows;
  if (dtype == DType::f16 || dtype == DType::bf16) return even(columns) * 2 * kGroupRows;
  int64_t bytes = 0;
  with_quantised(dtype, [&](auto type) { bytes = quantised_group_bytes<decltype(type)::value>(columns); });
  return bytes;
}

static inline int64_t row_groups(int64_t rows) { return (rows + kGroupRows - 1) / kGroupRows; }

}  // namespace lathe::cpu
