// The kernels of packed_linear.cu and grouped_packed_linear.cu. A warp multiplies tiles of packed_layout.h with tokens,
// weights being the 16 rows of mma.sync (bf16) or two rows of a lane's fma (f32, where four lanes share a row and are
// added by halves at the end of a segment).
//
// K is cut into segments of 64 ceil(K / 1024) columns. Up to 8 tokens (GEMV) a block has 16 outputs and a warp a
// segment; above, a block has some 100 outputs and its warps walk all of K, adding a segment's sum to the total at its
// end. Either way the same instructions meet the same numbers, so that an output has the same bits.
//
// Jobs: which weight and which tokens a block has (packed_jobs.h).
#pragma once
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/loads.h"
#include "kernels/cuda/packed_jobs.h"
#include "kernels/cuda/packed_layout.h"
#include "kernels/packed_linear.h"

namespace lathe::kernel::packed {

inline constexpr int kSegments = 16;   // at most
inline constexpr int kGemvTokens = 8;  // at most
// Of a block above: 6 warps of 16 in bf16, which leaves a thread 170 registers for two blocks a multiprocessor (8 warps
// would leave 128, which spill); 4 warps of 32 in f32.
inline constexpr int kRowWarps = 6, kBf16Outputs = 16 * kRowWarps, kFloatOutputs = 128;

// What all blocks of a call share.
struct Walk {
  const float* x;        // (M, K)
  const uint4* rounded;  // (M, tiles * 64) bf16, for tiles of tokens
  int64_t x_stride, y_stride;
  int columns, tiles, segment_tiles;
};

// The sums of 16 kRows outputs and 8 kTokens tokens by a warp. Totals: [0..1] are tokens 2 t, 2 t + 1 of row g, [2..3]
// those of row g + 8.
template <int kRows, int kTokens>
struct Totals {
  float at[kRows][kTokens][4] = {};

  __device__ __forceinline__ void store(const Job& job, int first_output, int64_t y_stride) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        const int output = first_output + 16 * i + 8 * q + g;
        if (output >= job.rows) continue;
        const float bias = job.bias != nullptr ? job.bias[output] : 0.0f;
#pragma unroll
        for (int j = 0; j < kTokens; ++j)
#pragma unroll
          for (int n = 0; n < 2; ++n) {
            const int token = job.token + 8 * j + 2 * t + n;
            if (token < job.token_end) job.y[token * y_stride + output] = at[i][j][2 * q + n] + bias;
          }
      }
  }
};

template <int kRows, int kTokens>
struct Bf16Sums {
  float at[kRows][kTokens][4] = {};

  // Half s of a tile for 16 outputs of kRows; x: eight columns of token 8 j + g.
  template <class X>
  __device__ __forceinline__ void add(const uint32_t (&w)[kRows][2][4], X x) {
#pragma unroll
    for (int j = 0; j < kTokens; ++j) {
      const uint4 v = x(j);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        mma_bf16_16816(at[i][j], {w[i][0][0], w[i][1][0], w[i][0][1], w[i][1][1]}, {v.x, v.y});
        mma_bf16_16816(at[i][j], {w[i][0][2], w[i][1][2], w[i][0][3], w[i][1][3]}, {v.z, v.w});
      }
    }
  }
  __device__ __forceinline__ void close(Totals<kRows, kTokens>& totals) {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kTokens; ++j)
#pragma unroll
        for (int q = 0; q < 4; ++q) {
          totals.at[i][j][q] += at[i][j][q];
          at[i][j][q] = 0.0f;
        }
  }
};

template <int kRows, int kTokens>
struct FloatSums {
  float at[kRows][2][kTokens][8] = {};  // of row g + 8 h and every token, over the lane's own columns

  // x: eight columns of a token.
  template <class X>
  __device__ __forceinline__ void add(const float (&w)[kRows][2][8], X x) {
#pragma unroll
    for (int j = 0; j < kTokens; ++j)
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        alignas(16) float v[8];
        if (!x(v, 8 * j + n)) continue;
#pragma unroll
        for (int i = 0; i < kRows; ++i)
#pragma unroll
          for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int c = 0; c < 8; ++c) at[i][h][j][n] = fmaf(w[i][h][c], v[c], at[i][h][j][n]);
      }
  }
  // Lanes that share a row send each other the tokens that they do not keep: first those of lane t ^ 2, then of t ^ 1.
  __device__ __forceinline__ void close(Totals<kRows, kTokens>& totals) {
    const bool high = threadIdx.x & 2, odd = threadIdx.x & 1;
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int j = 0; j < kTokens; ++j) {
          float(&a)[8] = at[i][h][j];
          float four[4];
#pragma unroll
          for (int n = 0; n < 4; ++n)
            four[n] = (high ? a[4 + n] : a[n]) + __shfl_xor_sync(kAllLanes, high ? a[n] : a[4 + n], 2);
#pragma unroll
          for (int n = 0; n < 2; ++n)
            totals.at[i][j][2 * h + n] +=
                (odd ? four[2 + n] : four[n]) + __shfl_xor_sync(kAllLanes, odd ? four[n] : four[2 + n], 1);
#pragma unroll
          for (int n = 0; n < 8; ++n) a[n] = 0.0f;
        }
  }
};

// Tiles of a group one after another, a tile ahead: but those of f32, for which there are no registers.
template <DType kType>
struct TileStream {
  static constexpr bool kAhead = kType != DType::f32;
  const uint8_t* group;
  int last, lane;
  Tile<kType> held, next;

  __device__ TileStream(const uint8_t* group, int first, int last, int lane) : group(group), last(last), lane(lane) {
    if constexpr (kAhead) next.load(group, first, lane);
  }
  __device__ __forceinline__ const Tile<kType>& take(int tile) {
    if constexpr (kAhead)
      held = next;
    else
      held.load(group, tile, lane);
    return held;
  }
  __device__ __forceinline__ void read_ahead(int tile) {
    if constexpr (kAhead)
      if (tile + 1 < last) next.load(group, tile + 1, lane);
  }
};

// ---- up to 8 tokens ----

template <DType kType, bool kBf16, class Jobs>
__global__ void __launch_bounds__(32 * kSegments) gemv_kernel(const Jobs jobs, const Walk walk) {
  SHARED_ARRAY(float, sums, [kSegments][kGemvTokens][kGroupRows]);
  Job job;
  if (!jobs.find(job, blockIdx.x, blockIdx.y, kGemvTokens)) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint8_t* group = job.weight + int64_t{job.row_block} * Format<kType>::tile_at(walk.tiles);
  const bool aligned = rows_aligned(walk.x, walk.x_stride);
  std::conditional_t<kBf16, Bf16Sums<1, 1>, FloatSums<1, 1>> running;
  Totals<1, 1> total;

  const int first = warp * walk.segment_tiles, last = min(first + walk.segment_tiles, walk.tiles);
  TileStream<kType> weights(group, first, last, lane);  // a segment has a tile at least
  for (int tile = first; tile < last; ++tile) {
    const Tile<kType>& held = weights.take(tile);
    weights.read_ahead(tile);
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const int column = tile * kTileColumns + 32 * s + 8 * t;
      const auto read = [&](float(&v)[8], int n) {
        const int token = job.token + n;
        if (token >= job.token_end) return false;
        const float* from = walk.x + token * walk.x_stride + column;
        *reinterpret_cast<Four*>(v) = load_some(from, walk.columns - column, aligned);
        *reinterpret_cast<Four*>(v + 4) = load_some(from + 4, walk.columns - column - 4, aligned);
        return true;
      };
      if constexpr (kBf16) {
        uint32_t w[1][2][4];
        held.round(w[0], s, t);
        running.add(w, [&](int) {
          alignas(16) float v[8] = {};
          read(v, g);
          return uint4{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])};
        });
      } else {
        float w[1][2][8];
        held.widen(w[0], s, t);
        running.add(w, read);
      }
    }
  }
  running.close(total);
#pragma unroll
  for (int q = 0; q < 4; ++q) sums[warp][2 * t + q % 2][g + q / 2 * 8] = total.at[0][0][q];
  __syncthreads();
  for (int i = threadIdx.x; i < kGemvTokens * kGroupRows; i += blockDim.x) {
    const int row = i % kGroupRows, n = i / kGroupRows;
    const int output = job.row_block * kGroupRows + row, token = job.token + n;
    if (output >= job.rows || token >= job.token_end) continue;
    float sum = 0.0f;
    for (int segment = 0; segment * 32 < static_cast<int>(blockDim.x); ++segment) sum += sums[segment][n][row];
    job.y[token * walk.y_stride + output] = sum + (job.bias != nullptr ? job.bias[output] : 0.0f);
  }
}

// ---- more ----

// x (M, K) in bf16, filled up with zeros to whole tiles of columns. A thread has eight columns.
static __global__ void __launch_bounds__(256)
    round_tokens_kernel(uint4* to, const float* x, int64_t x_stride, int64_t tokens, int64_t columns, int64_t chunks) {
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x, token = unit / chunks;
  if (token >= tokens) return;
  const int64_t column = unit % chunks * 8, left = columns - column;
  const float* from = x + token * x_stride + column;
  const bool aligned = rows_aligned(x, x_stride);
  const Four a = load_some(from, left, aligned), b = load_some(from + 4, left - 4, aligned);
  to[unit] = {pack_bf16(a.v[0], a.v[1]), pack_bf16(a.v[2], a.v[3]), pack_bf16(b.v[0], b.v[1]),
              pack_bf16(b.v[2], b.v[3])};
}

// A group of 16 rows; beyond the matrix its last one, whose outputs are not stored.
template <DType kType>
__device__ __forceinline__ const uint8_t* group_of(const Job& job, int group, int tiles) {
  return job.weight + int64_t{min(group, (job.rows - 1) / kGroupRows)} * Format<kType>::tile_at(tiles);
}

// 96 outputs and 64 kAcross tokens by 6 kAcross warps, each of 16 outputs and 64 tokens. Tokens come through shared
// memory in two stages by cp.async, weights straight into registers, a tile ahead where they have few bits.
template <DType kType, int kAcross, class Jobs>
__global__ void __launch_bounds__(32 * kRowWarps * kAcross, 2 / kAcross) tile_kernel(const Jobs jobs, const Walk walk) {
  constexpr int kThreads = 32 * kRowWarps * kAcross, kTokens = 64 * kAcross;
  SHARED_ARRAY(uint4, tokens, [2][kTokens * 8]);  // rows of 64 columns; the halves of odd tokens change places
  Job job;
  if (!jobs.find(job, blockIdx.y, blockIdx.x, kTokens)) return;
  const int warp = threadIdx.x / 32 % kRowWarps, across = threadIdx.x / 32 / kRowWarps, lane = threadIdx.x % 32,
            g = lane / 4, t = lane % 4;
  const auto place = [](int token, int chunk) { return token * 8 + (chunk ^ (token % 2 * 4)); };
  const uint4* const from = walk.rounded + static_cast<int64_t>(job.token) * walk.tiles * 8;
  const auto fetch = [&](int tile) {
#pragma unroll
    for (int unit = threadIdx.x; unit < kTokens * 8; unit += kThreads) {
      const int token = unit / 8, chunk = unit % 8;
      const bool read = job.token + token < job.token_end;
      cp_async16(&tokens[tile % 2][place(token, chunk)], from + ((read ? token : 0) * walk.tiles + tile) * 8 + chunk,
                 read);
    }
    cp_async_commit();
  };
  Bf16Sums<1, 8> running;
  Totals<1, 8> total;

  fetch(0);
  TileStream<kType> weights(group_of<kType>(job, job.row_block * kRowWarps + warp, walk.tiles), 0, walk.tiles, lane);
  for (int tile = 0, left = walk.segment_tiles; tile < walk.tiles; ++tile) {
    const Tile<kType>& held = weights.take(tile);
    cp_async_wait<0>();
    __syncthreads();
    if (tile + 1 < walk.tiles) fetch(tile + 1);
    weights.read_ahead(tile);
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      uint32_t w[1][2][4];
      held.round(w[0], s, t);
      running.add(w, [&](int j) { return tokens[tile % 2][place(64 * across + 8 * j + g, 4 * s + t)]; });
    }
    if (--left == 0 || tile + 1 == walk.tiles) {
      running.close(total);
      left = walk.segment_tiles;
    }
  }
  job.token += 64 * across;
  total.store(job, job.row_block * kBf16Outputs + kGroupRows * warp, walk.y_stride);
}

// The same in f32: 128 outputs and 16 tokens.
inline constexpr int kFloatTokens = 16;
template <DType kType, class Jobs>
__global__ void __launch_bounds__(128) float_tile_kernel(const Jobs jobs, const Walk walk) {
  SHARED_ARRAY(Four, tokens, [kFloatTokens][kTileColumns / 4]);
  Job job;
  if (!jobs.find(job, blockIdx.y, blockIdx.x, kFloatTokens)) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, t = lane % 4;
  const bool aligned = rows_aligned(walk.x, walk.x_stride);
  const int first_group = job.row_block * (kFloatOutputs / kGroupRows) + 2 * warp;
  const uint8_t* group[2] = {group_of<kType>(job, first_group, walk.tiles),
                             group_of<kType>(job, first_group + 1, walk.tiles)};
  FloatSums<2, 2> running;
  Totals<2, 2> total;
  for (int tile = 0, left = walk.segment_tiles; tile < walk.tiles; ++tile) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kFloatTokens * kTileColumns / 4 / 128; ++i) {
      const int unit = threadIdx.x + 128 * i, n = unit / 16, chunk = unit % 16;
      const int token = job.token + n, column = tile * kTileColumns + 4 * chunk;
      Four v = {};
      if (token < job.token_end) v = load_some(walk.x + token * walk.x_stride + column, walk.columns - column, aligned);
      tokens[n][chunk] = v;
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      float w[2][2][8];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        Tile<kType> held;
        held.load(group[i], tile, lane);
        held.widen(w[i], s, t);
      }
      running.add(w, [&](float(&v)[8], int n) {
        *reinterpret_cast<Four*>(v) = tokens[n][8 * s + 2 * t];
        *reinterpret_cast<Four*>(v + 4) = tokens[n][8 * s + 2 * t + 1];
        return true;
      });
    }
    if (--left == 0 || tile + 1 == walk.tiles) {
      running.close(total);
      left = walk.segment_tiles;
    }
  }
  total.store(job, job.row_block * kFloatOutputs + 32 * warp, walk.y_stride);
}

// ---- which of them ----

inline Arithmetic effective(Arithmetic arithmetic, DType dtype) {
  if (!is_integer(arithmetic)) return arithmetic;
  return is_quantised(dtype) ? Arithmetic::bf16 : Arithmetic::f32;
}

inline size_t scratch_bytes(int64_t m, int64_t columns, bool rounds) {
  return rounds && m > kGemvTokens ? static_cast<size_t>(m * tiles_of(columns) * kTileColumns * 2) : 0;
}

// The walk over x (M, K), which is rounded into `scratch` where there is any.
static inline Walk start_walk(Cuda on, ConstRows<float> x, int64_t m, int64_t columns, int64_t y_stride, void* scratch,
                              bool rounds) {
  const int64_t tiles = tiles_of(columns);
  if (scratch_bytes(m, columns, rounds) > 0)
    LAUNCH(round_tokens_kernel, dim3(blocks_of(m * tiles * 8, 256)), dim3(256), 0, on.stream,
           static_cast<uint4*>(scratch), x.data, x.stride, m, columns, tiles * 8);
  return {x.data,
          static_cast<const uint4*>(scratch),
          x.stride,
          y_stride,
          static_cast<int>(columns),
          static_cast<int>(tiles),
          static_cast<int>(ceil_divide(tiles, kSegments))};
}

// Launches what suits `tokens`, all of them; slots(tile) and row_blocks(outputs): the grid for blocks of so many.
template <DType kType, class Jobs, class Slots, class RowBlocks>
void multiply(Cuda on, Jobs& jobs, const Walk& walk, int64_t tokens, bool wide, Arithmetic arithmetic, Slots slots,
              RowBlocks row_blocks) {
  if (tokens <= kGemvTokens) {
    const dim3 grid(row_blocks(kGroupRows), slots(kGemvTokens)), block(32 * blocks_of(walk.tiles, walk.segment_tiles));
    if (arithmetic == Arithmetic::bf16)
      LAUNCH((gemv_kernel<kType, true, Jobs>), grid, block, 0, on.stream, jobs, walk);
    else
      LAUNCH((gemv_kernel<kType, false, Jobs>), grid, block, 0, on.stream, jobs, walk);
    return;
  }
  const unsigned blocks = row_blocks(arithmetic == Arithmetic::f32 ? kFloatOutputs : kBf16Outputs);
  if (arithmetic == Arithmetic::f32)
    LAUNCH((float_tile_kernel<kType, Jobs>), dim3(slots(kFloatTokens), blocks), dim3(128), 0, on.stream, jobs, walk);
  else if (wide)
    LAUNCH((tile_kernel<kType, 2, Jobs>), dim3(slots(128), blocks), dim3(64 * kRowWarps), 0, on.stream, jobs, walk);
  else
    LAUNCH((tile_kernel<kType, 1, Jobs>), dim3(slots(64), blocks), dim3(32 * kRowWarps), 0, on.stream, jobs, walk);
}

}  // namespace lathe::kernel::packed
