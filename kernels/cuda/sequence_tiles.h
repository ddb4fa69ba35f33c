// What attention of training in f32 and in bf16 share: the tile of a block, and the gradient of a score.
#pragma once
#include "kernels/attention.h"
#include "kernels/cuda/attention_tiles.h"

namespace lathe::kernel::head_tiles {

using ConstFloats = Rows<const float>;

// A block's rows: those of queries of one sequence and key-value head. The longest begin first.
template <int kHeight>
struct QueryTile {
  TileOfSequence place;
  int group, kv_head, row0, rows;  // rows: of the sequence
  int begin_key, end_key;          // that any of its rows sees, from a border of 64
  int all_from, all_below;         // the keys that all of them see

  __device__ QueryTile(const PackedSequences& s, const ScoreOptions& options)
      : group(static_cast<int>(s.heads / s.kv_heads)), kv_head(static_cast<int>(blockIdx.y)) {
    place = find_tile(s.seq_start, s.sequences, group, kHeight, static_cast<int>(gridDim.x - 1 - blockIdx.x));
    row0 = place.first_row;
    rows = place.tokens * group;
    const int last_row = row0 + kHeight < rows ? row0 + kHeight - 1 : rows - 1;
    all_below = row0 / group + 1;
    end_key = last_row / group + 1;
    begin_key = first_key(all_below, options) / kColumns * kColumns;
    all_from = first_key(end_key, options);
  }
  __device__ int64_t token(int row) const { return place.start + row / group; }
  __device__ int64_t head(int row) const { return static_cast<int64_t>(kv_head) * group + row % group; }
};

// Weights and gradients of scores of products with keys, or of keys with queries: P = exp(s - logsumexp) and
// dS = P (dP - delta) ds/dqk. What is unseen has neither.
struct ScoreGradient {
  float weight, gradient;
};
__device__ __forceinline__ ScoreGradient score_gradient(float qk, float dweight, bool seen, float slope, int distance,
                                                        float logsumexp, float delta, const ScoreOptions& options) {
  if (!seen) return {0.0f, 0.0f};
  float derivative;
  const float s = score(qk, options, slope, distance, &derivative);
  const float weight = exp2f(s - logsumexp * kLog2E);
  return {weight, weight * (dweight - delta) * derivative};
}

// Blocks for tiles of `height` rows, by key-value head.
inline dim3 grid_of(const PackedSequences& s, int64_t rows_a_token, int height) {
  const int64_t tiles = most_tiles(s.tokens, s.sequences, rows_a_token, height);
  return dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(s.kv_heads));
}

}  // namespace lathe::kernel::head_tiles
