// The tiles that attention on a GPU is made of with products in bf16, on tensor cores (mma.sync, m16n8k16): a block has
// 4 warps and 64 rows, a warp 16 of them, against tiles of rows in shared memory. The result of the first product is,
// in a thread's registers, the operand of the second (PTX ISA: c and a have the same layout), so that scores never
// leave them.
#pragma once
#include "kernels/cuda/attention_tiles.h"

namespace lathe::kernel::head_tiles {

constexpr int kWarpRows = 16, kBlockRows = 64;

// ---- tiles in shared memory: rows of kDim bf16, whose 16-byte words are permuted by row against bank conflicts ----

template <int kDim>
__device__ __forceinline__ int word_of(int row, int word) {
  return row * kDim + (word ^ (row & 7)) * 8;
}
template <int kCount, int kDim>
__device__ __forceinline__ void load_tile(bf16* tile, const HeadRows& x, int first, int begin, int end) {
  constexpr int kQuadsOfRow = kDim / 4;
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x); i < kCount * kQuadsOfRow; i += kTileThreads) {
    const int at = i / kQuadsOfRow, row = first + at, quad = i % kQuadsOfRow;
    Four v = {};
    if (row >= begin && row < end) v = load_some(x.at(row) + quad * 4, x.dim - quad * 4, x.aligned);
    *reinterpret_cast<uint2*>(tile + word_of<kDim>(at, quad / 2) + quad % 2 * 4) =
        make_uint2(pack_bf16(v.v[0], v.v[1]), pack_bf16(v.v[2], v.v[3]));
  }
}

// y (16, kCount) = 16 rows of a times kCount rows of b.
template <int kCount, int kDim>
__device__ __forceinline__ void multiply_rows(float (&y)[kCount / 8][4], const bf16* a, int row0, const bf16* b) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kCount / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) y[n][e] = 0.0f;
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    uint32_t left[4];
    ldmatrix_x4(left, a + word_of<kDim>(row0 + lane % 16, 2 * k + lane / 16));
#pragma unroll
    for (int n = 0; n < kCount / 16; ++n) {
      uint32_t right[4];
      ldmatrix_x4(right, b + word_of<kDim>(n * 16 + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
      const uint32_t first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
      mma_bf16_16816(y[2 * n], left, first);
      mma_bf16_16816(y[2 * n + 1], left, second);
    }
  }
}
// sums (16, kDim) += w (16, kCount) times kCount rows of b.
template <int kCount, int kDim>
__device__ __forceinline__ void add_rows(float (&sums)[kDim / 8][4], const float (&w)[kCount / 8][4], const bf16* b) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < kCount / 16; ++k) {
    const uint32_t left[4] = {pack_bf16(w[2 * k][0], w[2 * k][1]), pack_bf16(w[2 * k][2], w[2 * k][3]),
                              pack_bf16(w[2 * k + 1][0], w[2 * k + 1][1]), pack_bf16(w[2 * k + 1][2], w[2 * k + 1][3])};
#pragma unroll
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t right[4];
      ldmatrix_x4_trans(right, b + word_of<kDim>(k * 16 + lane % 16, 2 * n + lane / 16));
      const uint32_t first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
      mma_bf16_16816(sums[2 * n], left, first);
      mma_bf16_16816(sums[2 * n + 1], left, second);
    }
  }
}

// Element e of column group n of a thread: row row_of(e) of its warp, column n * 8 + column_of(e).
__device__ __forceinline__ int row_of(int e) { return static_cast<int>(threadIdx.x) % 32 / 4 + e / 2 * 8; }
__device__ __forceinline__ int column_of(int e) { return static_cast<int>(threadIdx.x) % 4 * 2 + e % 2; }
__device__ __forceinline__ int warp_row0() { return static_cast<int>(threadIdx.x) / 32 * kWarpRows; }

// Over the four threads that have a row.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}
// rowsum(a * b) of row `row`, by the four threads that have it.
__device__ __forceinline__ float row_product(const HeadRows& a, const HeadRows& b, int row, int end) {
  float sum = 0.0f;
  if (row < end)
    for (int d = static_cast<int>(threadIdx.x) % 4; d < a.dim; d += 4) sum = fmaf(a.at(row)[d], b.at(row)[d], sum);
  return row_sum(sum);
}
template <int kDim>
__device__ __forceinline__ void store_row(float* to, int dim, const float (&sums)[kDim / 8][4], int half,
                                          float factor) {
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int d = n * 8 + column_of(e);
      if (d < dim) to[d] = sums[n][2 * half + e] * factor;
    }
}

// The two rows of queries that a thread has, as QueryRows.
struct TwoRows {
  int row[2], first[2], last[2];
  float slope[2];
  __device__ TwoRows(int row0, int rows, int group, int shift, int head0, const ScoreOptions& options) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      row[h] = row0 + warp_row0() + row_of(2 * h);
      const bool exists = row[h] < rows;
      last[h] = exists ? shift + row[h] / group + 1 : 0;
      if (last[h] < 0) last[h] = 0;
      first[h] = first_key(last[h], options);
      slope[h] = exists && options.alibi_slopes != nullptr ? options.alibi_slopes[head0 + row[h] % group] : 0.0f;
    }
  }
};

// Of a thread's two rows, as Softmax.
template <int kDim>
struct RowSoftmax {
  float maximum[2], sum[2], values[kDim / 8][4];

  __device__ __forceinline__ void clear() {
    maximum[0] = maximum[1] = -INFINITY;
    sum[0] = sum[1] = 0.0f;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) values[n][e] = 0.0f;
  }
  // Products with the keys from key0 on become weights; `edges`: some of them are unseen by some row. A row that sees
  // none of the keys stays as it is, in every bit.
  __device__ __forceinline__ void take(float (&products)[kColumns / 8][4], const TwoRows& rows, int key0, bool edges,
                                       const ScoreOptions& options) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float most = maximum[h], added = 0.0f;
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          const int key = key0 + n * 8 + column_of(e);
          float x = score(products[n][e], options, rows.slope[h], key - (rows.last[h] - 1));
          if (edges && (key < rows.first[h] || key >= rows.last[h])) x = -INFINITY;
          products[n][e] = x;
          most = fmaxf(most, x);
        }
      most = row_max(most);
      const float base = base_of(most), keep = exp2f(maximum[h] - base);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          products[n][e] = exp2f(products[n][e] - base);
          added += products[n][e];
        }
      sum[h] = fmaf(sum[h], keep, row_sum(added));
      maximum[h] = most;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) values[n][e] = product(values[n][e], keep);
    }
  }
};

// ---- on the host ----

// f(kDim) by head_dim: the components behind it are zeros.
template <class F>
void by_padded_dim(int64_t head_dim, F f) {
  if (head_dim <= 64)
    f(std::integral_constant<int, 64>());
  else
    f(std::integral_constant<int, 128>());
}
constexpr size_t tile_bytes(int dim, int rows) { return static_cast<size_t>(dim) * static_cast<size_t>(rows) * 2; }

}  // namespace lathe::kernel::head_tiles
