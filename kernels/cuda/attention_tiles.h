// The tiles that attention on a GPU is made of, in f32: products of a tile of rows with 64 rows of another matrix, and
// sums of 64 rows by weights. Forward, both halves of the backward and the paged form are compositions of the two.
//
// A block has 128 threads, 8 groups of 16. Group g has kRows rows of the tile, and its thread t the columns t, t + 16,
// t + 32 and t + 48 of products, the components 4 t to 4 t + 3 of each 64 of sums. Operands go through shared memory in
// pieces of 64 components, so that what a block needs of it does not depend on head_dim.
//
// Bits: a product is summed by ascending component and a weighted sum by ascending row, each by fused
// multiply-additions in one thread: the number of rows in a tile changes no result.
#pragma once
#include <type_traits>

#include "kernels/checks.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/loads.h"
#include "kernels/paged_attention.h"

namespace lathe::kernel::head_tiles {

constexpr int kTileThreads = 128, kGroups = 8, kColumns = 64, kPiece = 64;
constexpr int kQuads = kPiece / 4 + 1;  // 16-byte words of a row in shared memory; one more, against bank conflicts
constexpr float kLog2E = 1.44269504f, kLn2 = 0.69314718f;

__device__ __forceinline__ int thread_column() { return static_cast<int>(threadIdx.x) % 16; }
__device__ __forceinline__ int thread_group() { return static_cast<int>(threadIdx.x) / 16; }

// A product that is not fused with what is added to it: two kernels that must agree in every bit do not depend on what
// the compiler fuses.
__device__ __forceinline__ float product(float a, float b) {
#if defined(__CUDACC__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

// ---- where a block stands ----

struct TileOfSequence {
  int sequence = -1;  // -1: there is no such tile
  int start = 0, tokens = 0, first_row = 0;
};
// Number `unit` of all tiles of `height` rows, sequence by sequence, each of which has `rows_a_token` rows a token.
// Called by whole warps.
__device__ inline TileOfSequence find_tile(const int32_t* seq_start, int64_t sequences, int rows_a_token, int height,
                                           int unit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int base = 0; base < sequences; base += 32) {
    const bool exists = base + lane < sequences;
    const int start = exists ? seq_start[base + lane] : 0, tokens = exists ? seq_start[base + lane + 1] - start : 0;
    const int tiles = ceil_divide(tokens * rows_a_token, height);
    const int end = warp_scan(tiles);  // of this sequence and those before it
    const unsigned beyond = __ballot_sync(kAllLanes, end > unit);
    if (beyond != 0) {
      const int owner = __ffs(static_cast<int>(beyond)) - 1;
      const int skipped = __shfl_sync(kAllLanes, end - tiles, owner);
      return {base + owner, __shfl_sync(kAllLanes, start, owner), __shfl_sync(kAllLanes, tokens, owner),
              (unit - skipped) * height};
    }
    unit -= __shfl_sync(kAllLanes, end, 31);
  }
  return {};
}
// The sequence of a token: the last one that begins at it or before it.
__device__ inline int64_t sequence_of(const int32_t* seq_start, int64_t sequences, int64_t token) {
  int64_t low = 0, high = sequences;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (seq_start[middle] <= token ? low : high) = middle;
  }
  return low;
}
// At least as many tiles as there are, by sizes alone.
inline int64_t most_tiles(int64_t tokens, int64_t sequences, int64_t rows_a_token, int64_t height) {
  return (tokens * rows_a_token + sequences * (height - 1)) / height;
}

// ---- rows of an operand ----

// Of one key-value head: row r is member r % group of token r / group. Queries have a group of heads, keys one.
struct HeadRows {
  const float* data;  // of the first token and head
  int64_t stride;     // from token to token
  int group, dim;
  bool aligned;  // rows begin at 16 bytes

  __device__ HeadRows(const float* rows, int64_t row_stride, int64_t token, int64_t head, int heads_of_token, int width)
      : data(rows + token * row_stride + head * width),
        stride(row_stride),
        group(heads_of_token),
        dim(width),
        aligned(rows_aligned(rows, row_stride) && width % 4 == 0) {}
  __device__ __forceinline__ const float* at(int row) const { return data + row / group * stride + row % group * dim; }

  // Components [piece, piece + 64) of rows [first, first + kCount); zeros outside of rows [begin, end) and behind dim.
  template <int kCount>
  __device__ __forceinline__ void load(float4 (*to)[kQuads], int first, int begin, int end, int piece) const {
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < kCount * 16; i += kTileThreads) {
      const int row = first + i / 16, d = piece + i % 16 * 4;
      float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (row >= begin && row < end && d < dim) {
        const Four read = load_some(at(row) + d, dim - d, aligned);
        x = make_float4(read.v[0], read.v[1], read.v[2], read.v[3]);
      }
      to[i / 16][i % 16] = x;
    }
  }
};

// ---- products and sums ----

struct Range {
  int first, begin, end;  // 64 rows from `first` on, of which those in [begin, end) exist
};

// y[i][j] = row (row0 + group row i) of `a` times row (range.first + column j) of `b`.
template <int kRows, class A, class B>
__device__ __forceinline__ void multiply(float (&y)[kRows][4], float4 (*rows)[kQuads], float4 (*columns)[kQuads],
                                         const A& a, int row0, int row_end, const B& b, Range range, int dim) {
  const int t = thread_column(), g = thread_group();
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) y[i][j] = 0.0f;
  for (int piece = 0; piece < dim; piece += kPiece) {
    __syncthreads();  // what was read of the tiles before
    a.template load<kGroups * kRows>(rows, row0, 0, row_end, piece);
    b.template load<kColumns>(columns, range.first, range.begin, range.end, piece);
    __syncthreads();
    const int quads = dim - piece < kPiece ? ceil_divide(dim - piece, 4) : kPiece / 4;
#pragma unroll 2
    for (int c = 0; c < quads; ++c) {
      float4 k[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) k[j] = columns[t + 16 * j][c];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const float4 q = rows[g * kRows + i][c];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          y[i][j] = fmaf(q.x, k[j].x, y[i][j]);
          y[i][j] = fmaf(q.y, k[j].y, y[i][j]);
          y[i][j] = fmaf(q.z, k[j].z, y[i][j]);
          y[i][j] = fmaf(q.w, k[j].w, y[i][j]);
        }
      }
    }
  }
}

template <int kRows>
__device__ __forceinline__ void store_weights(float4 (*weights)[kQuads], const float (&w)[kRows][4]) {
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      reinterpret_cast<float*>(weights[thread_group() * kRows + i])[thread_column() + 16 * j] = w[i][j];
}

// Adds to a row of sums its weights times 64 rows of b. Row i takes those in [from[i], to[i]) alone where `edges`: what
// it does not see may be no number.
template <int kRows, int kPieces, class B>
__device__ __forceinline__ void add_weighted(float (&sums)[kRows][kPieces][4], const float4 (*weights)[kQuads],
                                             float4 (*columns)[kQuads], const B& b, Range range, int dim, bool edges,
                                             const int (&from)[kRows], const int (&to)[kRows]) {
  const int t = thread_column(), g = thread_group();
  const int end = range.end - range.first < kColumns ? range.end - range.first : kColumns;
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    if (p * kPiece >= dim) break;
    __syncthreads();  // the weights are written, and what was in the tile is read
    b.template load<kColumns>(columns, range.first, range.begin, range.end, p * kPiece);
    __syncthreads();
#pragma unroll 2
    for (int c = 0; c < end; c += 4) {
      float w[kRows][4];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const float4 x = weights[g * kRows + i][c / 4];
        w[i][0] = x.x, w[i][1] = x.y, w[i][2] = x.z, w[i][3] = x.w;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float4 v = columns[c + j][t];
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const int key = range.first + c + j;
          if (edges && (key < from[i] || key >= to[i])) continue;
          sums[i][p][0] = fmaf(w[i][j], v.x, sums[i][p][0]);
          sums[i][p][1] = fmaf(w[i][j], v.y, sums[i][p][1]);
          sums[i][p][2] = fmaf(w[i][j], v.z, sums[i][p][2]);
          sums[i][p][3] = fmaf(w[i][j], v.w, sums[i][p][3]);
        }
      }
    }
  }
}

// A thread's four components of a row.
__device__ __forceinline__ void store_quad(float* row, int d, int dim, const float (&x)[4], float factor) {
#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (d + e < dim) row[d + e] = x[e] * factor;
}

// ---- scores ----

// As a power of two; `derivative` by q k, not counting log2(e).
__device__ __forceinline__ float score(float qk, const ScoreOptions& options, float slope, int distance,
                                       float* derivative = nullptr) {
  float s = product(qk, options.scale), by_qk = options.scale;
  if (options.softcap > 0.0f) {
    const float t = tanhf(s / options.softcap);
    s = product(options.softcap, t);
    by_qk *= 1.0f - t * t;
  }
  if (options.alibi_slopes != nullptr) s = fmaf(slope, static_cast<float>(distance), s);
  if (derivative != nullptr) *derivative = by_qk;
  return product(s, kLog2E);
}

// The first key that the query before position `last` sees.
__device__ __forceinline__ int first_key(int last, const ScoreOptions& options) {
  return options.window > 0 && last > options.window ? last - static_cast<int>(options.window) : 0;
}

// The rows of a tile that a thread has, and the keys [first, last) that each sees.
template <int kRows>
struct QueryRows {
  int first[kRows], last[kRows];
  float slope[kRows];

  // Row r is member r % group of the query at position `shift` + r / group; rows behind `rows` see nothing.
  __device__ QueryRows(int row0, int rows, int group, int shift, int head0, const ScoreOptions& options) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int row = row0 + thread_group() * kRows + i;
      last[i] = row < rows ? shift + row / group + 1 : 0;
      if (last[i] < 0) last[i] = 0;
      first[i] = first_key(last[i], options);
      slope[i] = options.alibi_slopes != nullptr && row < rows ? options.alibi_slopes[head0 + row % group] : 0.0f;
    }
  }
};

// Over the 16 threads of a group.
__device__ __forceinline__ float group_max(float x) {
  for (int distance = 8; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, distance));
  return x;
}
__device__ __forceinline__ float group_sum(float x) {
  for (int distance = 8; distance > 0; distance /= 2) x += __shfl_xor_sync(kAllLanes, x, distance);
  return x;
}
// What exponents are taken from: the maximum, where there is one.
__device__ __forceinline__ float base_of(float maximum) { return maximum == -INFINITY ? 0.0f : maximum; }

// Of a thread's rows: the largest score, the sum of exp2(score - largest), and the weighted sums of values.
template <int kRows, int kPieces>
struct Softmax {
  float maximum[kRows], sum[kRows], values[kRows][kPieces][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      maximum[i] = -INFINITY;
      sum[i] = 0.0f;
#pragma unroll
      for (int p = 0; p < kPieces; ++p)
#pragma unroll
        for (int e = 0; e < 4; ++e) values[i][p][e] = 0.0f;
    }
  }
  // 64 products of each row with keys from range.first on become weights, and the sums follow. A row that sees none of
  // the keys stays as it is, in every bit.
  __device__ __forceinline__ void take(float (&products)[kRows][4], const QueryRows<kRows>& rows, Range range,
                                       const ScoreOptions& options) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      bool seen[4];
      float most = maximum[i];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = range.first + thread_column() + 16 * j;
        seen[j] = key >= rows.first[i] && key < rows.last[i];
        products[i][j] = score(products[i][j], options, rows.slope[i], key - (rows.last[i] - 1));
        if (seen[j]) most = fmaxf(most, products[i][j]);
      }
      most = group_max(most);
      const float base = base_of(most), keep = exp2f(maximum[i] - base);
      float added = 0.0f;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        products[i][j] = seen[j] ? exp2f(products[i][j] - base) : 0.0f;
        added += products[i][j];
      }
      sum[i] = fmaf(sum[i], keep, group_sum(added));
      maximum[i] = most;
#pragma unroll
      for (int p = 0; p < kPieces; ++p)
#pragma unroll
        for (int e = 0; e < 4; ++e) values[i][p][e] = product(values[i][p][e], keep);
    }
  }
};

// Attention of a tile's rows to the 64 keys of `range`, of which the tile's first row sees those below `all_below`, and
// its last those from `all_from` on.
template <int kRows, int kPieces, class Keys>
__device__ __forceinline__ void attend(Softmax<kRows, kPieces>& state, float4 (*rows)[kQuads],
                                       float4 (*columns)[kQuads], float4 (*weights)[kQuads], const HeadRows& q,
                                       int row0, int row_end, const Keys& keys, const Keys& values, Range range,
                                       int all_from, int all_below, const QueryRows<kRows>& bounds,
                                       const ScoreOptions& options) {
  float products[kRows][4];
  multiply(products, rows, columns, q, row0, row_end, keys, range, q.dim);
  state.take(products, bounds, range, options);
  store_weights(weights, products);
  const bool edges = range.first < all_from || range.first + kColumns > all_below;
  add_weighted(state.values, weights, columns, values, range, q.dim, edges, bounds.first, bounds.last);
}

// ---- on the host ----

// f(rows a group of threads, pieces of 64 components), as integral constants, by head_dim: as many rows as the
// registers of a thread hold.
template <class F>
void by_head_dim(int64_t head_dim, F f) {
  if (head_dim <= 64)
    f(std::integral_constant<int, 4>(), std::integral_constant<int, 1>());
  else if (head_dim <= 128)
    f(std::integral_constant<int, 4>(), std::integral_constant<int, 2>());
  else
    f(std::integral_constant<int, 2>(), std::integral_constant<int, 4>());
}

}  // namespace lathe::kernel::head_tiles
