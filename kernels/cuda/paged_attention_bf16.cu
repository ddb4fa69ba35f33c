// Paged attention over a cache of bf16 on tensor cores: queries, and the weights of values, are rounded to bf16;
// scores, maxima, exponentials and sums are f32. The walk, its segments and their merge are those of
// paged_attention.cu, and so is the law of bits: a row of mma.sync does not depend on the other rows of its tile.
//
// A block has 64 rows. Pages are copied by cp.async into one of two stages while the other is multiplied. Decoding,
// most rows of the tile are empty and one warp multiplies: the block waits for memory, which is what a decode costs.
//
// A value that is no number spoils, besides the queries that see it, those before them in the same tile: their weight
// of it is zero, and zero times infinity is NaN.
//
// The ladder (Qwen3-0.6B, 16 query and 8 key-value heads of 128, one layer):
//   version 1 (this)   decode of 256 sequences at context 843: 0.88 GB, limit 0.29 ms at 3.0 TB/s. Prefill of 2,048
//                      tokens: 17 GFLOP, limit 0.02 ms at 790 TFLOP/s. Not measured yet: no GPU has run it.
#include "kernels/cuda/bf16_tiles.h"
#include "kernels/cuda/paged_tiles.h"

namespace lathe::kernel {
namespace {
using namespace head_tiles;

// Keys, or values, [first, first + 64) of those in [begin, end), zeros elsewhere; they are there after cp_async_wait
// and a barrier.
template <int kDim>
__device__ __forceinline__ void fetch(bf16* tile, const PagedRows& rows, int first, int begin, int end) {
  constexpr int kWords = kDim / 8;
  const bool words = rows.aligned && rows.dim % 8 == 0;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < kColumns * kWords; i += kTileThreads) {
    const int key = first + i / kWords, d = i % kWords * 8;
    bf16* const to = tile + word_of<kDim>(i / kWords, i % kWords);
    const bool exists = key >= begin && key < end && d < rows.dim;
    const bf16* const from = exists ? rows.at<bf16>(key) + d : reinterpret_cast<const bf16*>(rows.head);
    if (words) {
      cp_async16(to, from, exists);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) to[e] = exists && d + e < rows.dim ? from[e] : bf16{};
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kTileThreads, 1) paged_attention_bf16_kernel(PagedCall call) {
  DYN_SHARED(bf16, queries);
  constexpr int kStage = 2 * kColumns * kDim;  // keys, then values
  bf16* const stages = queries + kBlockRows * kDim;
  const PagedTile tile(call, kBlockRows);
  if (!tile.exists()) return;
  const bool split = call.partials != nullptr;
  const int dim = static_cast<int>(call.head_dim);
  const PagedRows keys = tile.rows(call, call.pages.keys), values = tile.rows(call, call.pages.values);
  const TwoRows rows(tile.row0, tile.row_end, tile.group, tile.shift, tile.head0, call.options);
  const bool works = tile.row0 + warp_row0() < tile.row_end;  // the warp has rows

  int chunk = tile.first_segment * kSegmentTokens, end = tile.end_segment * kSegmentTokens;
  if (chunk < tile.begin_key) chunk = tile.begin_key / kColumns * kColumns;
  if (end > tile.end_key) end = tile.end_key;
  const auto fetch_chunk = [&](int first, int stage) {
    fetch<kDim>(stages + stage * kStage, keys, first, tile.begin_key, end);
    fetch<kDim>(stages + stage * kStage + kColumns * kDim, values, first, tile.begin_key, end);
    cp_async_commit();
  };
  if (chunk < end) fetch_chunk(chunk, 0);
  load_tile<kBlockRows, kDim>(queries, tile.queries(call), tile.row0, 0, tile.row_end);

  RowSoftmax<kDim> segment, total;
  segment.clear();
  total.clear();
  for (int stage = 0; chunk < end; chunk += kColumns, stage ^= 1) {
    const int next = chunk + kColumns;
    if (next < end) {
      fetch_chunk(next, stage ^ 1);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();
    if (works) {
      const bf16* const tiles = stages + stage * kStage;
      float weights[kColumns / 8][4];
      multiply_rows<kColumns, kDim>(weights, queries, warp_row0(), tiles);
      segment.take(weights, rows, chunk, chunk < tile.all_from || next > tile.all_below, call.options);
      add_rows<kColumns, kDim>(segment.values, weights, tiles + kColumns * kDim);
      if (!split && (next % kSegmentTokens == 0 || next >= end)) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const Merge merge(total.maximum[h], segment.maximum[h]);
          total.maximum[h] = merge.maximum;
          total.sum[h] = merge.of(total.sum[h], segment.sum[h]);
#pragma unroll
          for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; ++e)
              total.values[n][e] = merge.of(total.values[n][e], segment.values[n][e]);
        }
        segment.clear();
      }
    }
    __syncthreads();  // the stage is read
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (rows.row[h] >= tile.row_end) continue;
    const int64_t at = tile.output(call, rows.row[h]);
    if (split) {
      float* const partial = tile.partial(call, at);
      store_row<kDim>(partial, dim, segment.values, h, 1.0f);
      if (column_of(0) == 0) partial[dim] = segment.maximum[h], partial[dim + 1] = segment.sum[h];
    } else {
      store_row<kDim>(call.out + at * dim, dim, total.values, h, rows.last[h] > 0 ? 1.0f / total.sum[h] : 0.0f);
    }
  }
}

}  // namespace

void head_tiles::launch_paged_bf16(Cuda on, const PagedCall& call) {
  by_padded_dim(call.head_dim, [&](auto dim) {
    LAUNCH((paged_attention_bf16_kernel<dim()>), grid_of(call, kBlockRows), dim3(kTileThreads),
           tile_bytes(dim(), kBlockRows + 4 * kColumns), on.stream, call);
  });
}

}  // namespace lathe::kernel
