// Attention of training in f32 on the tiles of attention_tiles.h: FlashAttention-2 (Dao 2023, algorithms 1 and 2).
//
//   forward    a block has 16 or 32 rows (queries of the heads of one key-value head) and walks their keys by 64
//   dq         the same rows; scores are recomputed, delta = rowsum(dout * out) of its rows is computed first
//   dk, dv     a block has 16 or 32 keys and walks by 64 the rows that see them, heads of the group within a query
//
// One block owns what it writes and walks in ascending order from its sequence's start: no atomics, and the bits of a
// sequence do not depend on its neighbours. Grids follow from N and S alone; the borders are read on the device.
//
// The ladder (GPT-2 124M, 64 x 1024 tokens, 12 heads of 64, one layer, causal):
//   version 1 (this)   f32 in CUDA cores. Forward 103 GFLOP, 0.8 GB; backward 2.5 and 2 times that.
//                      Limit at 67 TFLOP/s of f32 multiply-adds: 1.5 ms forward, 3.9 ms backward; at 790 TFLOP/s in
//                      bf16 0.13 and 0.33 ms, at 3.0 TB/s 0.27 and 0.54 ms. Not measured yet: no GPU has run it.
#include "kernels/attention.h"
#include "kernels/cuda/attention_bf16.h"
#include "kernels/cuda/sequence_tiles.h"

namespace lathe::kernel {
namespace {
using namespace lathe::kernel::head_tiles;

template <int kRows, int kPieces>
__global__ void __launch_bounds__(kTileThreads, 1)
    attention_kernel(float* __restrict__ out, float* __restrict__ logsumexp, ConstFloats q, ConstFloats k,
                     ConstFloats v, PackedSequences s, ScoreOptions options) {
  SHARED_ARRAY(float4, rows, [kGroups * kRows][kQuads]);
  SHARED_ARRAY(float4, columns, [kColumns][kQuads]);
  SHARED_ARRAY(float4, weights, [kGroups * kRows][kQuads]);
  const QueryTile<kGroups * kRows> tile(s, options);
  if (tile.place.sequence < 0) return;
  const int dim = static_cast<int>(s.head_dim);
  const HeadRows queries(q.data, q.stride, tile.place.start, tile.kv_head * tile.group, tile.group, dim);
  const HeadRows keys(k.data, k.stride, tile.place.start, tile.kv_head, 1, dim);
  const HeadRows values(v.data, v.stride, tile.place.start, tile.kv_head, 1, dim);
  const QueryRows<kRows> bounds(tile.row0, tile.rows, tile.group, 0, tile.kv_head * tile.group, options);

  Softmax<kRows, kPieces> state;
  state.clear();
  for (int key = tile.begin_key; key < tile.end_key; key += kColumns)
    attend(state, rows, columns, weights, queries, tile.row0, tile.rows, keys, values,
           Range{key, tile.begin_key, tile.end_key}, tile.all_from, tile.all_below, bounds, options);
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int row = tile.row0 + thread_group() * kRows + i;
    if (row >= tile.rows) continue;
    const int64_t at = tile.token(row) * s.heads + tile.head(row);
#pragma unroll
    for (int p = 0; p < kPieces; ++p)
      store_quad(out + at * dim, p * kPiece + thread_column() * 4, dim, state.values[i][p], 1.0f / state.sum[i]);
    if (thread_column() == 0) logsumexp[at] = (state.maximum[i] + log2f(state.sum[i])) * kLn2;
  }
}

template <int kRows, int kPieces>
__global__ void __launch_bounds__(kTileThreads, 1)
    attention_dq_kernel(Rows<float> dq, const float* __restrict__ dout, const float* __restrict__ out,
                        const float* __restrict__ logsumexp, ConstFloats q, ConstFloats k, ConstFloats v,
                        PackedSequences s, ScoreOptions options) {
  SHARED_ARRAY(float4, rows, [kGroups * kRows][kQuads]);
  SHARED_ARRAY(float4, columns, [kColumns][kQuads]);
  SHARED_ARRAY(float4, weights, [kGroups * kRows][kQuads]);
  const QueryTile<kGroups * kRows> tile(s, options);
  if (tile.place.sequence < 0) return;
  const int dim = static_cast<int>(s.head_dim), head0 = tile.kv_head * tile.group;
  const int64_t ldo = s.heads * s.head_dim;
  const HeadRows queries(q.data, q.stride, tile.place.start, head0, tile.group, dim);
  const HeadRows douts(dout, ldo, tile.place.start, head0, tile.group, dim);
  const HeadRows keys(k.data, k.stride, tile.place.start, tile.kv_head, 1, dim);
  const HeadRows values(v.data, v.stride, tile.place.start, tile.kv_head, 1, dim);
  const QueryRows<kRows> bounds(tile.row0, tile.rows, tile.group, 0, head0, options);

  float delta[kRows], lse[kRows], sums[kRows][kPieces][4];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int row = tile.row0 + thread_group() * kRows + i;
    const int64_t at = tile.token(row) * s.heads + tile.head(row);
    float sum = 0.0f;
    if (row < tile.rows)
      for (int d = thread_column(); d < dim; d += 16) sum = fmaf(dout[at * dim + d], out[at * dim + d], sum);
    delta[i] = group_sum(sum);
    lse[i] = row < tile.rows ? logsumexp[at] : 0.0f;
#pragma unroll
    for (int p = 0; p < kPieces; ++p)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][p][e] = 0.0f;
  }
  for (int key0 = tile.begin_key; key0 < tile.end_key; key0 += kColumns) {
    const Range range{key0, tile.begin_key, tile.end_key};
    float qk[kRows][4], dweights[kRows][4];
    multiply(qk, rows, columns, queries, tile.row0, tile.rows, keys, range, dim);
    multiply(dweights, rows, columns, douts, tile.row0, tile.rows, values, range, dim);
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = key0 + thread_column() + 16 * j;
        qk[i][j] = score_gradient(qk[i][j], dweights[i][j], key >= bounds.first[i] && key < bounds.last[i],
                                  bounds.slope[i], key - (bounds.last[i] - 1), lse[i], delta[i], options)
                       .gradient;
      }
    store_weights(weights, qk);
    add_weighted(sums, weights, columns, keys, range, dim, false, bounds.first, bounds.last);
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int row = tile.row0 + thread_group() * kRows + i;
    if (row >= tile.rows) continue;
#pragma unroll
    for (int p = 0; p < kPieces; ++p)
      store_quad(dq.data + tile.token(row) * dq.stride + tile.head(row) * dim, p * kPiece + thread_column() * 4, dim,
                 sums[i][p], 1.0f);
  }
}

template <int kRows, int kPieces>
__global__ void __launch_bounds__(kTileThreads, 1)
    attention_dkv_kernel(Rows<float> dk, Rows<float> dv, const float* __restrict__ dout, const float* __restrict__ out,
                         const float* __restrict__ logsumexp, ConstFloats q, ConstFloats k, ConstFloats v,
                         PackedSequences s, ScoreOptions options) {
  SHARED_ARRAY(float4, rows, [kGroups * kRows][kQuads]);
  SHARED_ARRAY(float4, columns, [kColumns][kQuads]);
  SHARED_ARRAY(float4, weights, [kGroups * kRows][kQuads]);
  SHARED_ARRAY(float, deltas, [kColumns]);
  const TileOfSequence place = find_tile(s.seq_start, s.sequences, 1, kGroups * kRows, static_cast<int>(blockIdx.x));
  if (place.sequence < 0) return;
  const int dim = static_cast<int>(s.head_dim), group = static_cast<int>(s.heads / s.kv_heads);
  const int kv_head = static_cast<int>(blockIdx.y), head0 = kv_head * group, key0 = place.first_row;
  const int64_t ldo = s.heads * s.head_dim;
  const HeadRows queries(q.data, q.stride, place.start, head0, group, dim);
  const HeadRows douts(dout, ldo, place.start, head0, group, dim), outs(out, ldo, place.start, head0, group, dim);
  const HeadRows keys(k.data, k.stride, place.start, kv_head, 1, dim);
  const HeadRows values(v.data, v.stride, place.start, kv_head, 1, dim);

  float dks[kRows][kPieces][4], dvs[kRows][kPieces][4];
  const int nowhere[kRows] = {};
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int p = 0; p < kPieces; ++p)
#pragma unroll
      for (int e = 0; e < 4; ++e) dks[i][p][e] = dvs[i][p][e] = 0.0f;

  // Rows that see any of the keys, from a border of 64.
  const int last_key = key0 + kGroups * kRows - 1;
  int end_query = place.tokens;
  if (options.window > 0 && last_key + options.window < end_query)
    end_query = last_key + static_cast<int>(options.window);
  const int first_row = key0 * group / kColumns * kColumns, end_row = end_query * group;
  for (int row0 = first_row; row0 < end_row; row0 += kColumns) {
    const Range range{row0, first_row, end_row};
    float qk[kRows][4], dweights[kRows][4];
    multiply(qk, rows, columns, keys, key0, place.tokens, queries, range, dim);
    multiply(dweights, rows, columns, values, key0, place.tokens, douts, range, dim);
    for (int c = thread_group(); c < kColumns; c += kGroups) {
      float sum = 0.0f;
      if (row0 + c < end_row)
        for (int d = thread_column(); d < dim; d += 16) sum = fmaf(douts.at(row0 + c)[d], outs.at(row0 + c)[d], sum);
      sum = group_sum(sum);
      if (thread_column() == 0) deltas[c] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int c = thread_column() + 16 * j, row = row0 + c, query = row / group, head = head0 + row % group;
      const bool exists = row < end_row;
      const float lse = exists ? logsumexp[(place.start + query) * s.heads + head] : 0.0f;
      const float slope = options.alibi_slopes != nullptr ? options.alibi_slopes[head] : 0.0f;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int key = key0 + thread_group() * kRows + i;
        const bool seen = exists && key <= query && (options.window <= 0 || query - key < options.window);
        const ScoreGradient g =
            score_gradient(qk[i][j], dweights[i][j], seen, slope, key - query, lse, deltas[c], options);
        qk[i][j] = g.weight;
        dweights[i][j] = g.gradient;
      }
    }
    store_weights(weights, qk);
    add_weighted(dvs, weights, columns, douts, range, dim, false, nowhere, nowhere);
    __syncthreads();  // the weights are read
    store_weights(weights, dweights);
    add_weighted(dks, weights, columns, queries, range, dim, false, nowhere, nowhere);
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int key = key0 + thread_group() * kRows + i;
    if (key >= place.tokens) continue;
    const int64_t token = place.start + key, column = static_cast<int64_t>(kv_head) * dim;
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      store_quad(dk.data + token * dk.stride + column, p * kPiece + thread_column() * 4, dim, dks[i][p], 1.0f);
      store_quad(dv.data + token * dv.stride + column, p * kPiece + thread_column() * 4, dim, dvs[i][p], 1.0f);
    }
  }
}

// A warp a query and head, a lane a key; for observers, who look at few tokens.
__global__ void __launch_bounds__(kTileThreads, 1)
    probabilities_kernel(float* __restrict__ probabilities, int64_t longest, ConstFloats q, ConstFloats k,
                         PackedSequences s, ScoreOptions options) {
  const int warps = kTileThreads / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / 32;
  if (unit >= s.tokens * s.heads) return;
  const int64_t token = unit / s.heads, head = unit % s.heads, dim = s.head_dim;
  const int64_t start = s.seq_start[sequence_of(s.seq_start, s.sequences, token)], query = token - start;
  const int64_t first = first_key(static_cast<int>(query) + 1, options);
  const float* query_row = q.data + token * q.stride + head * dim;
  const float* keys = k.data + start * k.stride + head / (s.heads / s.kv_heads) * dim;
  const float slope = options.alibi_slopes != nullptr ? options.alibi_slopes[head] : 0.0f;
  float* const row = probabilities + unit * longest;

  float highest = -INFINITY;
  for (int64_t key = lane; key < longest; key += 32) {
    float x = 0.0f;
    if (key >= first && key <= query) {
      for (int64_t d = 0; d < dim; ++d) x = fmaf(query_row[d], keys[key * k.stride + d], x);
      x = score(x, options, slope, static_cast<int>(key - query));
      highest = fmaxf(highest, x);
    }
    row[key] = x;
  }
  highest = warp_max(highest);
  float sum = 0.0f;
  for (int64_t key = lane; key < longest; key += 32)
    if (key >= first && key <= query) sum += row[key] = exp2f(row[key] - highest);
  sum = warp_sum(sum);
  for (int64_t key = lane; key < longest; key += 32)
    if (key >= first && key <= query) row[key] /= sum;  // the others stay 0 beside a NaN, too
}

bool multiplies_in_bf16(const PackedSequences& s, const ScoreOptions& options) {
  return options.products == Arithmetic::bf16 && s.head_dim <= kBf16HeadDim;
}

}  // namespace

template <>
void attention(Cuda on, float* out, float* logsumexp, ConstRows<float> q, ConstRows<float> k, ConstRows<float> v,
               const PackedSequences& s, const ScoreOptions& options) {
  check_cuda_head_dim("attention", s.head_dim);
  if (s.tokens == 0) return;
  if (multiplies_in_bf16(s, options)) return launch_attention_bf16(on, out, logsumexp, q, k, v, s, options);
  by_head_dim(s.head_dim, [&](auto rows, auto pieces) {
    LAUNCH((attention_kernel<rows(), pieces()>), grid_of(s, s.heads / s.kv_heads, kGroups * rows()), dim3(kTileThreads),
           0, on.stream, out, logsumexp, q, k, v, s, options);
  });
}

template <>
void attention_backward(Cuda on, Rows<float> dq, Rows<float> dk, Rows<float> dv, const float* dout, const float* out,
                        const float* logsumexp, ConstRows<float> q, ConstRows<float> k, ConstRows<float> v,
                        const PackedSequences& s, const ScoreOptions& options) {
  check_cuda_head_dim("attention_backward", s.head_dim);
  if (s.tokens == 0) return;
  if (multiplies_in_bf16(s, options))
    return launch_attention_backward_bf16(on, dq, dk, dv, dout, out, logsumexp, q, k, v, s, options);
  by_head_dim(s.head_dim, [&](auto rows, auto pieces) {
    LAUNCH((attention_dq_kernel<rows(), pieces()>), grid_of(s, s.heads / s.kv_heads, kGroups * rows()),
           dim3(kTileThreads), 0, on.stream, dq, dout, out, logsumexp, q, k, v, s, options);
    LAUNCH((attention_dkv_kernel<rows(), pieces()>), grid_of(s, 1, kGroups * rows()), dim3(kTileThreads), 0, on.stream,
           dk, dv, dout, out, logsumexp, q, k, v, s, options);
  });
}

template <>
void attention_probabilities(Cuda on, float* probabilities, int64_t longest, ConstRows<float> q, ConstRows<float> k,
                             const PackedSequences& s, const ScoreOptions& options) {
  if (s.tokens == 0) return;
  LAUNCH(probabilities_kernel, dim3(blocks_of(s.tokens * s.heads, kTileThreads / 32)), dim3(kTileThreads), 0, on.stream,
         probabilities, longest, q, k, s, options);
}

}  // namespace lathe::kernel
