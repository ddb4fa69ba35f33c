// Packing of weights into the layout of packed_layout.h, from GGUF's blocks in device memory, and the way back to f32.
//
// A thread makes what one lane holds of one tile. Blocks are read a byte at a time: a weight is packed once.
// Version 1. Bytes: the file's and the packed form's. Derived limit at 3.0 TB/s: 0.7 ms a GB of weights. A lane holds
// two rows of a tile: one that is unpacked alone costs twice its packed bytes. Not measured yet: no GPU has run it.
#include "kernels/checks.h"
#include "kernels/cuda/block_formats.h"
#include "kernels/cuda/packed_layout.h"
#include "kernels/embedding.h"
#include "kernels/packed_linear.h"

namespace lathe::kernel {
namespace {

using packed::Format;
constexpr int kPackThreads = 256;

__device__ __forceinline__ uint32_t two_bytes(const uint8_t* p) { return p[0] | static_cast<uint32_t>(p[1]) << 8; }

// What stands before the quants of a tile: a row's scales, and every fourth time the factors of a format of 256
// columns.
template <DType kType>
__device__ void put_scales(uint8_t* group, const uint8_t* row, int64_t tile, int64_t columns, int lane) {
  using F = Format<kType>;
  using Bits = typename F::Bits;
  constexpr int kBytes = kBlockBytes<kType>;
  uint32_t words[2] = {};
  if constexpr (!F::kHasHead) {
    for (int s = 0; s < 2 && row != nullptr; ++s) {
      if (tile * 64 + 32 * s >= columns) continue;
      const uint8_t* block = row + (2 * tile + s) * kBytes;
      words[0] |= two_bytes(block) << (16 * s);
      if constexpr (Bits::kHasMinimum) words[1] |= two_bytes(block + 2) << (16 * s);
    }
  } else {
    constexpr int kRuns = packed::kTileColumns / Bits::kRun;
    uint32_t head = 0;
    if (row != nullptr) {
      const uint8_t* block = row + tile / 4 * kBytes;
      for (int i = 0; i < kRuns; ++i) {
        const int run = static_cast<int>(tile % 4) * kRuns + i;
        words[0] |= scale_in_block<kType>(block, run) << (8 * i);
        if constexpr (Bits::kHasMinimum && kRuns == 2) words[0] |= minimum_in_block(block, run) << (8 * i + 16);
      }
      head = two_bytes(block + kFactorAt<kType>);
      if constexpr (Bits::kHasMinimum) head |= two_bytes(block + kFactorAt<kType> + 2) << 16;
    }
    if (tile % 4 == 0) reinterpret_cast<uint32_t*>(group + F::head_at(tile))[lane] = head;
  }
  uint32_t* to = reinterpret_cast<uint32_t*>(group + F::tile_at(tile) + F::kScalesAt) + lane * F::kScaleWords;
  for (int i = 0; i < F::kScaleWords; ++i) to[i] = words[i];
}

template <DType kType>
__global__ void __launch_bounds__(kPackThreads)
    pack_kernel(uint8_t* packed, const uint8_t* source, int64_t rows, int64_t columns, int64_t row_bytes, int64_t tiles,
                int64_t groups) {
  using F = Format<kType>;
  constexpr int kBlock = kBlockSize<kType>, kBytes = kBlockBytes<kType>;
  const int lane = threadIdx.x % 32;
  const int64_t unit = (static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x) / 32;
  if (unit >= groups * tiles) return;
  const int64_t group_at = unit / tiles, tile = unit % tiles;
  uint8_t* group = packed + group_at * F::tile_at(tiles);
  uint8_t* to = group + F::tile_at(tile);
  uint32_t low[F::kLowWords] = {}, high[F::kHighWords + 1] = {};
#pragma unroll
  for (int e = 0; e < 32; ++e) {
    const int s = e / 16, h = e / 8 % 2, j = e % 8;
    const int64_t row = group_at * packed::kGroupRows + lane / 4 + 8 * h;
    const int64_t column = tile * packed::kTileColumns + 32 * s + lane % 4 * 8 + j;
    if (row >= rows || column >= columns) continue;
    const uint8_t* at = source + row * row_bytes + column / kBlock * kBytes;
    if constexpr (kType == DType::f32) {
      low[e] = two_bytes(at) | two_bytes(at + 2) << 16;
    } else if constexpr (!F::kQuantised) {
      low[e / 2] |= two_bytes(at) << (16 * (e % 2));
    } else {
      const uint32_t q = quant_in_block<kType>(at, static_cast<int>(column % kBlock));
      constexpr uint32_t kLowMask = (1u << F::kLowBits) - 1;
      if constexpr (F::kLowBits == 8) low[e / 4] |= q << (8 * (e % 4));
      if constexpr (F::kLowBits == 4) low[2 * s + h] |= (q & kLowMask) << (4 * j);
      if constexpr (F::kLowBits == 2) low[s] |= (q & kLowMask) << (2 * (8 * h + j));
      if constexpr (F::kHighBits == 1) high[0] |= (q >> F::kLowBits) << e;
      if constexpr (F::kHighBits == 2) high[s] |= (q >> F::kLowBits) << (2 * (8 * h + j));
    }
  }
#pragma unroll
  for (int i = 0; i < F::kLowWords; ++i) *reinterpret_cast<uint32_t*>(to + F::word_at(F::kLowWords, i, lane)) = low[i];
#pragma unroll
  for (int i = 0; i < F::kHighWords; ++i)
    *reinterpret_cast<uint32_t*>(to + F::kHighAt + F::word_at(F::kHighWords, i, lane)) = high[i];
  if constexpr (F::kQuantised) {
    const int64_t row = group_at * packed::kGroupRows + lane;
    if (lane < packed::kGroupRows)
      put_scales<kType>(group, row < rows ? source + row * row_bytes : nullptr, tile, columns, lane);
  }
}

// y (count, K) = the rows ids[i], or first + i where ids is null. A thread has eight columns.
template <DType kType>
__global__ void __launch_bounds__(kPackThreads)
    unpack_kernel(float* y, const uint8_t* packed, int64_t columns, int64_t tiles, const int32_t* ids, int64_t first,
                  int64_t count) {
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  const int64_t i = unit / (tiles * 8), tile = unit % (tiles * 8) / 8;
  if (i >= count) return;
  const int64_t row = ids != nullptr ? ids[i] : first + i;
  const int in_group = static_cast<int>(row % packed::kGroupRows), s = unit % 8 / 4, t = unit % 4;
  const int64_t column = tile * packed::kTileColumns + 32 * s + 8 * t;
  packed::Tile<kType> held;
  held.load(packed + row / packed::kGroupRows * Format<kType>::tile_at(tiles), tile, in_group % 8 * 4 + t);
#pragma unroll
  for (int half = 0; half < 2; ++half) {  // registers take no index that is not known
    if (half != s) continue;
    float w[2][8];
    held.widen(w, half, t);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (column + j < columns) y[i * columns + column + j] = in_group < 8 ? w[0][j] : w[1][j];
  }
}

void unpack(Cuda on, float* y, const PackedMatrix& w, const int32_t* ids, int64_t first, int64_t count) {
  const int64_t tiles = packed::tiles_of(w.columns);
  if (count == 0) return;
  cpu::with_stored(w.dtype, [&](auto type) {
    LAUNCH((unpack_kernel<decltype(type)::value>), dim3(blocks_of(count * tiles * 8, kPackThreads)), dim3(kPackThreads),
           0, on.stream, y, w.data, w.columns, tiles, ids, first, count);
  });
}

}  // namespace

size_t packed_bytes(Cuda, DType dtype, int64_t rows, int64_t columns) {
  check_packable(dtype, rows, columns);
  int64_t bytes = 0;
  cpu::with_stored(
      dtype, [&](auto type) { bytes = packed::groups_of(rows) * packed::group_bytes<decltype(type)::value>(columns); });
  return static_cast<size_t>(bytes);
}

void pack(Cuda on, uint8_t* packed, const void* source, DType dtype, int64_t rows, int64_t columns) {
  check_packable(dtype, rows, columns);
  const int64_t tiles = packed::tiles_of(columns), groups = packed::groups_of(rows);
  cpu::with_stored(dtype, [&](auto type) {
    LAUNCH((pack_kernel<decltype(type)::value>), dim3(blocks_of(groups * tiles * 32, kPackThreads)), dim3(kPackThreads),
           0, on.stream, packed, static_cast<const uint8_t*>(source), rows, columns,
           static_cast<int64_t>(bytes_of(dtype, columns)), tiles, groups);
  });
}

void unpack_rows(Cuda on, float* y, const PackedMatrix& w, int64_t first, int64_t count) {
  check_unpacked_rows(w, first, count);
  unpack(on, y, w, nullptr, first, count);
}

void embedding(Cuda on, float* y, const PackedMatrix& table, const int32_t* ids, int64_t n) {
  unpack(on, y, table, ids, 0, n);
}

}  // namespace lathe::kernel
