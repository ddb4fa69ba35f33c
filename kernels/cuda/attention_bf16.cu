// Attention of training with products in bf16 and sums in f32, on tensor cores: the algorithms of attention.cu, with
// mma.sync (m16n8k16) in place of its two tile products. Operands are rounded to bf16 as they enter shared memory, and
// weights and gradients of scores as they leave the registers; maxima, sums, exponentials and results are f32.
//
// A block has 4 warps and 64 rows, a warp 16 of them: queries forward and for dq, keys for dk and dv. It walks the
// other side by 64 rows forward and by 32 backward. The result of the first product is, in a thread's registers, the
// operand of the second (PTX ISA, m16n8k16: c and a have the same layout), so that scores never leave them.
//
// The ladder (GPT-2 124M, 64 x 1024 tokens, 12 heads of 64, one layer, causal):
//   version 1 (this)   forward 103 GFLOP, 0.8 GB: limits 0.13 ms at 790 TFLOP/s, 0.27 ms at 3.0 TB/s. Backward
//                      258 GFLOP (361 as computed: scores twice), 1.6 GB: 0.33 and 0.54 ms. Not measured yet: no GPU
//                      has run it.
#include "kernels/cuda/attention_bf16.h"
#include "kernels/cuda/bf16_tiles.h"
#include "kernels/cuda/sequence_tiles.h"

namespace lathe::kernel {
namespace {
using namespace head_tiles;

constexpr int kBackwardColumns = 32;

template <int kDim>
__global__ void __launch_bounds__(kTileThreads, 1)
    attention_bf16_kernel(float* __restrict__ out, float* __restrict__ logsumexp, ConstFloats q, ConstFloats k,
                          ConstFloats v, PackedSequences s, ScoreOptions options) {
  DYN_SHARED(bf16, queries);
  bf16 *const keys = queries + kBlockRows * kDim, *const values = keys + kColumns * kDim;
  const QueryTile<kBlockRows> tile(s, options);
  if (tile.place.sequence < 0) return;
  const int dim = static_cast<int>(s.head_dim);
  const HeadRows k_rows(k.data, k.stride, tile.place.start, tile.kv_head, 1, dim);
  const HeadRows v_rows(v.data, v.stride, tile.place.start, tile.kv_head, 1, dim);
  load_tile<kBlockRows, kDim>(queries,
                              HeadRows(q.data, q.stride, tile.place.start, tile.kv_head * tile.group, tile.group, dim),
                              tile.row0, 0, tile.rows);
  const TwoRows rows(tile.row0, tile.rows, tile.group, 0, tile.kv_head * tile.group, options);
  RowSoftmax<kDim> state;
  state.clear();

  for (int key0 = tile.begin_key; key0 < tile.end_key; key0 += kColumns) {
    __syncthreads();  // the tiles before are read
    load_tile<kColumns, kDim>(keys, k_rows, key0, tile.begin_key, tile.end_key);
    load_tile<kColumns, kDim>(values, v_rows, key0, tile.begin_key, tile.end_key);
    __syncthreads();
    float weights[kColumns / 8][4];
    multiply_rows<kColumns, kDim>(weights, queries, warp_row0(), keys);
    state.take(weights, rows, key0, key0 < tile.all_from || key0 + kColumns > tile.all_below, options);
    add_rows<kColumns, kDim>(state.values, weights, values);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (rows.row[h] >= tile.rows) continue;
    const int64_t at = tile.token(rows.row[h]) * s.heads + tile.head(rows.row[h]);
    store_row<kDim>(out + at * dim, dim, state.values, h, 1.0f / state.sum[h]);
    if (column_of(0) == 0) logsumexp[at] = (state.maximum[h] + log2f(state.sum[h])) * kLn2;
  }
}

template <int kDim>
__global__ void __launch_bounds__(kTileThreads, 1)
    attention_dq_bf16_kernel(Rows<float> dq, const float* __restrict__ dout, const float* __restrict__ out,
                             const float* __restrict__ logsumexp, ConstFloats q, ConstFloats k, ConstFloats v,
                             PackedSequences s, ScoreOptions options) {
  DYN_SHARED(bf16, queries);
  bf16 *const douts = queries + kBlockRows * kDim, *const keys = douts + kBlockRows * kDim,
              *const values = keys + kBackwardColumns * kDim;
  const QueryTile<kBlockRows> tile(s, options);
  if (tile.place.sequence < 0) return;
  const int dim = static_cast<int>(s.head_dim), head0 = tile.kv_head * tile.group;
  const int64_t ldo = s.heads * s.head_dim;
  const HeadRows dout_rows(dout, ldo, tile.place.start, head0, tile.group, dim);
  const HeadRows out_rows(out, ldo, tile.place.start, head0, tile.group, dim);
  const HeadRows k_rows(k.data, k.stride, tile.place.start, tile.kv_head, 1, dim);
  const HeadRows v_rows(v.data, v.stride, tile.place.start, tile.kv_head, 1, dim);
  load_tile<kBlockRows, kDim>(queries, HeadRows(q.data, q.stride, tile.place.start, head0, tile.group, dim), tile.row0,
                              0, tile.rows);
  load_tile<kBlockRows, kDim>(douts, dout_rows, tile.row0, 0, tile.rows);
  const TwoRows rows(tile.row0, tile.rows, tile.group, 0, tile.kv_head * tile.group, options);
  float sums[kDim / 8][4] = {}, delta[2], lse[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = rows.row[h];
    delta[h] = row_product(dout_rows, out_rows, row, tile.rows);
    lse[h] = row < tile.rows ? logsumexp[tile.token(row) * s.heads + tile.head(row)] : 0.0f;
  }
  for (int key0 = tile.begin_key; key0 < tile.end_key; key0 += kBackwardColumns) {
    __syncthreads();
    load_tile<kBackwardColumns, kDim>(keys, k_rows, key0, tile.begin_key, tile.end_key);
    load_tile<kBackwardColumns, kDim>(values, v_rows, key0, tile.begin_key, tile.end_key);
    __syncthreads();
    float qk[kBackwardColumns / 8][4], dweights[kBackwardColumns / 8][4];
    multiply_rows<kBackwardColumns, kDim>(qk, queries, warp_row0(), keys);
    multiply_rows<kBackwardColumns, kDim>(dweights, douts, warp_row0(), values);
#pragma unroll
    for (int n = 0; n < kBackwardColumns / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int h = e / 2, key = key0 + n * 8 + column_of(e);
        qk[n][e] = score_gradient(qk[n][e], dweights[n][e], key >= rows.first[h] && key < rows.last[h], rows.slope[h],
                                  key - (rows.last[h] - 1), lse[h], delta[h], options)
                       .gradient;
      }
    add_rows<kBackwardColumns, kDim>(sums, qk, keys);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h)
    if (rows.row[h] < tile.rows)
      store_row<kDim>(dq.data + tile.token(rows.row[h]) * dq.stride + tile.head(rows.row[h]) * dim, dim, sums, h, 1.0f);
}

template <int kDim>
__global__ void __launch_bounds__(kTileThreads, 1)
    attention_dkv_bf16_kernel(Rows<float> dk, Rows<float> dv, const float* __restrict__ dout,
                              const float* __restrict__ out, const float* __restrict__ logsumexp, ConstFloats q,
                              ConstFloats k, ConstFloats v, PackedSequences s, ScoreOptions options) {
  DYN_SHARED(bf16, keys);
  SHARED_ARRAY(float, deltas, [kBackwardColumns]);
  SHARED_ARRAY(float, lses, [kBackwardColumns]);
  bf16 *const values = keys + kBlockRows * kDim, *const queries = values + kBlockRows * kDim,
              *const douts = queries + kBackwardColumns * kDim;
  const TileOfSequence place = find_tile(s.seq_start, s.sequences, 1, kBlockRows, static_cast<int>(blockIdx.x));
  if (place.sequence < 0) return;
  const int dim = static_cast<int>(s.head_dim), group = static_cast<int>(s.heads / s.kv_heads);
  const int kv_head = static_cast<int>(blockIdx.y), head0 = kv_head * group, key0 = place.first_row;
  const int64_t ldo = s.heads * s.head_dim;
  const HeadRows q_rows(q.data, q.stride, place.start, head0, group, dim);
  const HeadRows dout_rows(dout, ldo, place.start, head0, group, dim);
  const HeadRows out_rows(out, ldo, place.start, head0, group, dim);
  load_tile<kBlockRows, kDim>(keys, HeadRows(k.data, k.stride, place.start, kv_head, 1, dim), key0, 0, place.tokens);
  load_tile<kBlockRows, kDim>(values, HeadRows(v.data, v.stride, place.start, kv_head, 1, dim), key0, 0, place.tokens);
  float dks[kDim / 8][4] = {}, dvs[kDim / 8][4] = {};

  const int last_key = key0 + kBlockRows - 1;
  int end_query = place.tokens;
  if (options.window > 0 && last_key + options.window < end_query)
    end_query = last_key + static_cast<int>(options.window);
  const int begin_row = key0 * group / kBackwardColumns * kBackwardColumns, end_row = end_query * group;
  for (int row0 = begin_row; row0 < end_row; row0 += kBackwardColumns) {
    __syncthreads();
    load_tile<kBackwardColumns, kDim>(queries, q_rows, row0, begin_row, end_row);
    load_tile<kBackwardColumns, kDim>(douts, dout_rows, row0, begin_row, end_row);
    const int mine = static_cast<int>(threadIdx.x) / 4, row_here = row0 + mine;
    const float product = row_product(dout_rows, out_rows, row_here, end_row);
    if (threadIdx.x % 4 == 0) {
      deltas[mine] = product;
      lses[mine] =
          row_here < end_row ? logsumexp[(place.start + row_here / group) * s.heads + head0 + row_here % group] : 0.0f;
    }
    __syncthreads();
    float qk[kBackwardColumns / 8][4], dweights[kBackwardColumns / 8][4];
    multiply_rows<kBackwardColumns, kDim>(qk, keys, warp_row0(), queries);
    multiply_rows<kBackwardColumns, kDim>(dweights, values, warp_row0(), douts);
#pragma unroll
    for (int n = 0; n < kBackwardColumns / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int c = n * 8 + column_of(e), row = row0 + c, query = row / group;
        const int key = key0 + warp_row0() + row_of(e);
        const bool seen = row < end_row && key <= query && (options.window <= 0 || query - key < options.window);
        const float slope = options.alibi_slopes != nullptr ? options.alibi_slopes[head0 + row % group] : 0.0f;
        const ScoreGradient g =
            score_gradient(qk[n][e], dweights[n][e], seen, slope, key - query, lses[c], deltas[c], options);
        qk[n][e] = g.weight;
        dweights[n][e] = g.gradient;
      }
    add_rows<kBackwardColumns, kDim>(dvs, qk, douts);
    add_rows<kBackwardColumns, kDim>(dks, dweights, queries);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int key = key0 + warp_row0() + row_of(2 * h);
    if (key >= place.tokens) continue;
    const int64_t token = place.start + key, column = static_cast<int64_t>(kv_head) * dim;
    store_row<kDim>(dk.data + token * dk.stride + column, dim, dks, h, 1.0f);
    store_row<kDim>(dv.data + token * dv.stride + column, dim, dvs, h, 1.0f);
  }
}

}  // namespace

void launch_attention_bf16(Cuda on, float* out, float* logsumexp, ConstRows<float> q, ConstRows<float> k,
                           ConstRows<float> v, const PackedSequences& s, const ScoreOptions& options) {
  by_padded_dim(s.head_dim, [&](auto dim) {
    LAUNCH((attention_bf16_kernel<dim()>), grid_of(s, s.heads / s.kv_heads, kBlockRows), dim3(kTileThreads),
           tile_bytes(dim(), kBlockRows + 2 * kColumns), on.stream, out, logsumexp, q, k, v, s, options);
  });
}

void launch_attention_backward_bf16(Cuda on, Rows<float> dq, Rows<float> dk, Rows<float> dv, const float* dout,
                                    const float* out, const float* logsumexp, ConstRows<float> q, ConstRows<float> k,
                                    ConstRows<float> v, const PackedSequences& s, const ScoreOptions& options) {
  by_padded_dim(s.head_dim, [&](auto dim) {
    const size_t bytes = tile_bytes(dim(), 2 * kBlockRows + 2 * kBackwardColumns);
    LAUNCH((attention_dq_bf16_kernel<dim()>), grid_of(s, s.heads / s.kv_heads, kBlockRows), dim3(kTileThreads), bytes,
           on.stream, dq, dout, out, logsumexp, q, k, v, s, options);
    LAUNCH((attention_dkv_bf16_kernel<dim()>), grid_of(s, 1, kBlockRows), dim3(kTileThreads), bytes, on.stream, dk, dv,
           dout, out, logsumexp, q, k, v, s, options);
  });
}

}  // namespace lathe::kernel
