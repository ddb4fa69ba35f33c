// Packing of weights into the layout of packed_layout.h: transpositions of 32-bit words (16-bit ones for f16), 16 rows
// at a time, each byte of the source read once. One core of a Sapphire Rapids class Xeon packs 2.6 GB/s of q4_1.
#include <cstring>

#include "kernels/cpu/packed_layout.h"
#include "kernels/packed_linear.h"
#include "tensor/errors.h"
#include "tensor/threads.h"

namespace lathe::cpu {
namespace {

// The 16 rows of a group; those that the matrix lacks are null.
struct GroupRows {
  const uint8_t* row[kGroupRows];
};

void pack_f32(uint8_t* to, const GroupRows& rows, int64_t columns) {
  for (int64_t k = 0; k < even(columns); ++k, to += 64)
    for (int r = 0; r < kGroupRows; ++r)
      if (rows.row[r] != nullptr && k < columns)
        std::memcpy(to + 4 * r, rows.row[r] + 4 * k, 4);
      else
        std::memset(to + 4 * r, 0, 4);
}

void pack_f16(uint8_t* to, const GroupRows& rows, int64_t columns) {
  for (int64_t k = 0; k < even(columns); ++k, to += 32)
    for (int r = 0; r < kGroupRows; ++r)
      if (rows.row[r] != nullptr && k < columns)
        std::memcpy(to + 2 * r, rows.row[r] + 2 * k, 2);
      else
        std::memset(to + 2 * r, 0, 2);
}

void pack_bf16(uint8_t* to, const GroupRows& rows, int64_t columns) {
  for (int64_t k = 0; k < columns; k += 2, to += 64)
    for (int r = 0; r < kGroupRows; ++r) {
      uint32_t pair = 0;
      if (rows.row[r] != nullptr) std::memcpy(&pair, rows.row[r] + 2 * k, k + 1 < columns ? 4 : 2);
      std::memcpy(to + 4 * r, &pair, 4);
    }
}

// A GGUF block is: f16 scale, f16 minimum (q4_1 only), quants.
template <DType kType>
void pack_quantised(uint8_t* to, const GroupRows& rows, int64_t columns) {
  using Layout = QuantisedLayout<kType>;
  constexpr int kBlock = info(kType).block_bytes, kQuantsAt = Layout::kHasMinimum ? 4 : 2;
  constexpr uint32_t kFlip = Layout::kEightBits ? 0x80808080u : 0u;
  for (int64_t b = 0; b < columns / kBlockColumns; ++b, to += Layout::kBytes)
    for (int r = 0; r < kGroupRows; ++r) {
      // A missing row is zeros; its quants do not matter, as its scale is zero.
      uint8_t block[kBlock] = {};
      if (rows.row[r] != nullptr) std::memcpy(block, rows.row[r] + b * kBlock, kBlock);
      for (int i = 0; i < Layout::kWords; ++i) {
        uint32_t word;
        std::memcpy(&word, block + kQuantsAt + 4 * i, 4);
        word ^= kFlip;
        std::memcpy(to + i * kWordBytes + 4 * r, &word, 4);
      }
      std::memcpy(to + Layout::kScaleAt + 2 * r, block, 2);
      if constexpr (Layout::kHasMinimum) std::memcpy(to + Layout::kMinimumAt + 2 * r, block + 2, 2);
    }
}

void pack_group(uint8_t* to, const GroupRows& rows, DType dtype, int64_t columns) {
  switch (dtype) {
    case DType::f32: return pack_f32(to, rows, columns);
    case DType::f16: return pack_f16(to, rows, columns);
    case DType::bf16: return pack_bf16(to, rows, columns);
    case DType::q8_0: return pack_quantised<DType::q8_0>(to, rows, columns);
    case DType::q4_0: return pack_quantised<DType::q4_0>(to, rows, columns);
    case DType::q4_1: return pack_quantised<DType::q4_1>(to, rows, columns);
    case DType::f64:
    case DType::i32: return;
  }
}

template <DType kType>
void unpack_quantised(float* y, const uint8_t* group, int64_t lane, int64_t columns) {
  using Layout = QuantisedLayout<kType>;
  for (int64_t b = 0; b < columns / kBlockColumns; ++b, group += Layout::kBytes) {
    uint16_t scale_bits, minimum_bits = 0;
    std::memcpy(&scale_bits, group + Layout::kScaleAt + 2 * lane, 2);
    if constexpr (Layout::kHasMinimum) std::memcpy(&minimum_bits, group + Layout::kMinimumAt + 2 * lane, 2);
    const float scale = f16_to_f32(scale_bits), minimum = f16_to_f32(minimum_bits);
    for (int i = 0; i < 8; ++i)
      for (int j = 0; j < 4; ++j) {
        int q = group[i % Layout::kWords * kWordBytes + 4 * lane + j];
        if constexpr (!Layout::kEightBits) q = i < 4 ? q & 15 : q >> 4;
        const float product = static_cast<float>(q - Layout::kOffset) * scale;
        y[b * kBlockColumns + 4 * i + j] = Layout::kHasMinimum ? product + minimum : product;
      }
  }
}

void check_packable(DType dtype, int64_t rows, int64_t columns) {
  check(dtype != DType::f64 && dtype != DType::i32, "pack", "{} weights have no packed form", name(dtype));
  check(rows >= 1 && columns >= 1, "pack", "weight is ({}, {}), expected at least one row and one column", rows,
        columns);
  check(columns % info(dtype).block_size == 0, "pack", "{} weight has {} columns, expected a multiple of {}",
        name(dtype), columns, info(dtype).block_size);
}

}  // namespace

size_t packed_bytes(DType dtype, int64_t rows, int64_t columns) {
  check_packable(dtype, rows, columns);
  return static_cast<size_t>((row_groups(rows) * group_bytes(dtype, columns) + 63) / 64 * 64);
}

void pack(uint8_t* packed, const void* source, DType dtype, int64_t rows, int64_t columns) {
  check_packable(dtype, rows, columns);
  const uint8_t* bytes = static_cast<const uint8_t*>(source);
  const int64_t row_bytes = static_cast<int64_t>(bytes_of(dtype, columns)), packed_group = group_bytes(dtype, columns);
  const int64_t grain = 1 + (64 << 10) / (packed_group + 1);  // small matrices are not worth a fork
  parallel_for(row_groups(rows), grain, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      GroupRows group;
      for (int r = 0; r < kGroupRows; ++r) {
        const int64_t row = g * kGroupRows + r;
        group.row[r] = row < rows ? bytes + row * row_bytes : nullptr;
      }
      pack_group(packed + g * packed_group, group, dtype, columns);
    }
  });
}

void unpack_row(float* y, const PackedMatrix& w, int64_t row) {
  check(row >= 0 && row < w.rows, "unpack_row", "row {} wanted, weight has {}", row, w.rows);
  const uint8_t* group = w.data + row / kGroupRows * group_bytes(w.dtype, w.columns);
  const int64_t lane = row % kGroupRows;
  const auto half = [&](int64_t at) {
    uint16_t bits;
    std::memcpy(&bits, group + 2 * at, 2);
    return bits;
  };
  switch (w.dtype) {
    case DType::f32:
      for (int64_t k = 0; k < w.columns; ++k) std::memcpy(y + k, group + (k * kGroupRows + lane) * 4, 4);
      return;
    case DType::f16:
      for (int64_t k = 0; k < w.columns; ++k) y[k] = f16_to_f32(half(k * kGroupRows + lane));
      return;
    case DType::bf16:
      for (int64_t k = 0; k < w.columns; ++k) y[k] = bf16_to_f32(half((k / 2 * kGroupRows + lane) * 2 + k % 2));
      return;
    case DType::q8_0: return unpack_quantised<DType::q8_0>(y, group, lane, w.columns);
    case DType::q4_0: return unpack_quantised<DType::q4_0>(y, group, lane, w.columns);
    case DType::q4_1: return unpack_quantised<DType::q4_1>(y, group, lane, w.columns);
    case DType::f64:
    case DType::i32: break;
  }
  check(false, "unpack_row", "{} weights have no packed form", name(w.dtype));
}

}  // namespace lathe::cpu
