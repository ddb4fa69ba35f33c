// What paged attention in f32 and in bf16 share: the call, where a block stands, and how segments are merged.
#pragma once
#include "kernels/cuda/cache_page.h"

namespace lathe::kernel::head_tiles {

inline int64_t segments_of(int64_t context) { return ceil_divide(context, kSegmentTokens); }
// Of the partial result of a segment: the weighted values, the maximum and the sum.
__host__ __device__ constexpr int64_t partial_floats(int64_t head_dim) { return ceil_divide(head_dim + 2, 4) * 4; }

// What the results of two sets of keys are multiplied by, so that they can be added.
struct Merge {
  float maximum, keep, add;
  __device__ __forceinline__ Merge(float before, float comes) : maximum(fmaxf(before, comes)) {
    const float base = base_of(maximum);
    keep = exp2f(before - base);
    add = exp2f(comes - base);
  }
  __device__ __forceinline__ float of(float before, float comes) const {
    return fmaf(comes, add, product(before, keep));
  }
};

struct PagedCall {
  float* out;
  float* partials;  // [token][head][segment][partial_floats]; null: a block has all segments
  Rows<const float> q;
  CacheLayer pages;
  PagedBatch batch;
  int64_t heads, kv_heads, head_dim, head_bytes, segments;
  ScoreOptions options;
};

// A block's rows, queries of the heads of one key-value head, and the segments that it walks.
struct PagedTile {
  TileOfSequence place;
  int group, head0, row0, row_end;  // row_end: of the sequence
  int shift;                        // position of the sequence's first query
  int begin_key, end_key;           // that any of the rows sees
  int all_from, all_below;          // the keys that all of them see
  int first_segment, end_segment;

  __device__ PagedTile(const PagedCall& call, int height)
      : group(static_cast<int>(call.heads / call.kv_heads)), head0(static_cast<int>(blockIdx.y) * group) {
    place = find_tile(call.batch.seq_start, call.batch.sequences, group, height,
                      static_cast<int>(gridDim.x - 1 - blockIdx.x));  // the rows that see most begin first
    if (place.sequence < 0) return;
    shift = call.batch.context_len[place.sequence] - place.tokens;
    row0 = place.first_row;
    row_end = place.tokens * group;
    const int last_row = row0 + height < row_end ? row0 + height - 1 : row_end - 1;
    all_below = shift + row0 / group + 1;
    end_key = shift + last_row / group + 1;
    begin_key = first_key(all_below, call.options);
    all_from = first_key(end_key, call.options);
    const bool split = call.partials != nullptr;
    first_segment = split ? static_cast<int>(blockIdx.z) : begin_key / kSegmentTokens;
    end_segment = split ? first_segment + 1 : ceil_divide(end_key, kSegmentTokens);
    // Of a segment before or behind what the rows see there is no result; a sequence without keys has none.
    if (split && (first_segment * kSegmentTokens >= end_key || end_segment * kSegmentTokens <= begin_key))
      place.sequence = -1;
  }
  __device__ bool exists() const { return place.sequence >= 0; }
  __device__ HeadRows queries(const PagedCall& call) const {
    return HeadRows(call.q.data, call.q.stride, place.start, head0, group, static_cast<int>(call.head_dim));
  }
  __device__ PagedRows rows(const PagedCall& call, const void* pages) const {
    return PagedRows(pages, call.pages, call.batch.page_table + place.sequence * call.batch.pages_per_sequence,
                     static_cast<int>(blockIdx.y), call.head_bytes, static_cast<int>(call.head_dim));
  }
  // Which of (N, Hq) a row is.
  __device__ int64_t output(const PagedCall& call, int row) const {
    return (place.start + row / group) * call.heads + head0 + row % group;
  }
  __device__ float* partial(const PagedCall& call, int64_t output) const {
    return call.partials + (output * call.segments + first_segment) * partial_floats(call.head_dim);
  }
};

// Blocks for tiles of `height` rows, by key-value head and, where results are split, by segment.
inline dim3 grid_of(const PagedCall& call, int height) {
  const int64_t tiles = most_tiles(call.batch.tokens, call.batch.sequences, call.heads / call.kv_heads, height);
  const int64_t segments = call.partials != nullptr ? call.segments : 1;
  return dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(call.kv_heads), static_cast<unsigned>(segments));
}

// With queries, and weights of values, rounded to bf16, over a cache of bf16; paged_attention_bf16.cu.
void launch_paged_bf16(Cuda on, const PagedCall& call);

}  // namespace lathe::kernel::head_tiles
