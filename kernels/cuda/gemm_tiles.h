// One tile of C = op(A) op(B) by one block, the product that gemm.cu and grouped.cu launch.
//
// Each element of C has one accumulator, and its terms come in the order of k: in f32 one fma each, in bf16 sixteen a
// mma.sync, the last ones filled with zeros. So its bits depend on K alone, and tiles of two sizes give the same ones.
//
// A stage is `kDepth` of k. The next one's elements are read from global memory into registers (16 bytes a thread where
// rows are aligned so) while the tensor cores or the fma units work on the last, then stored, converted and activated,
// into the other half of shared memory: one barrier a stage. An operand whose rows run along k is kept by rows in bf16
// and turned in f32; the other kind is kept as it lies. Chunks of 16 bytes are permuted (kBf16) so that the eight rows
// that ldmatrix takes at once lie in different banks.
#pragma once
#include "kernels/cuda/activation_values.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/loads.h"
#include "kernels/gemm.h"

namespace lathe::kernel::tiles {

constexpr int64_t kMultiprocessors = 132;  // of an H100: fewer tiles than these are made smaller

// A matrix as it is stored, and what is computed of its elements on their way.
struct Operand {
  const float* x = nullptr;
  int64_t stride = 0;
  const float* up = nullptr;  // (alike) of a gated activation
  int64_t up_stride = 0;
  Activation f = Activation::silu;
  bool activated = false;
};

struct Slope {
  const float *x = nullptr, *up = nullptr;
  float* dup = nullptr;
  int64_t x_stride = 0, up_stride = 0, dup_stride = 0;
  Activation f = Activation::silu;
};

struct Product {
  float* c;
  int64_t c_stride;
  Operand a, b;
  int m, n, k;
  bool accumulate;
  const float* bias = nullptr;  // (N) or null
  float* row_sums = nullptr;    // (M) or null
  Slope slope = {};             // x null: none
};

// How a block of kTile * 2 threads makes a tile of kTile rows and columns.
template <int kTile, bool kBf16>
struct Shape {
  static constexpr int kThreads = 2 * kTile, kDepth = kBf16 ? 32 : 16;
  static constexpr int kPasses = kTile * kDepth / 4 / kThreads;  // of four elements a thread, for a stage of an operand
  static constexpr int kLine = kBf16 ? 0 : kTile + 4;            // floats of a row of k in shared memory
  static constexpr int kStageBytes = kBf16 ? kTile * kDepth * 2 : kLine * kDepth * 4;
};

// Loads an operand's stages. kAlongK: its stored rows are those of the tile and run along k, else the stored rows are
// k.
template <int kTile, bool kBf16, bool kAlongK, bool kActivated>
struct Loader {
  using S = Shape<kTile, kBf16>;
  static constexpr int kChunks = kAlongK ? S::kDepth / 4 : kTile / 4;  // of four elements in a stored row
  static constexpr int kRowsAtOnce = S::kThreads / kChunks;

  const Operand& from;
  // Where the thread's elements of the first pass at k = 0 are stored, and how many rows and columns there are from
  // there on.
  int64_t offset;
  int first_row, rows, columns;
  bool aligned;
  Four held[S::kPasses];

  __device__ Loader(const Operand& from, int first, int count, int k)
      : from(from), aligned(rows_aligned(from.x, from.stride)) {
    rows = kAlongK ? count - first - row(0) : k - row(0);
    columns = kAlongK ? k - 4 * chunk() : count - first - 4 * chunk();
    offset = kAlongK ? 4 * chunk() : first + 4 * chunk();
    first_row = kAlongK ? first + row(0) : row(0);
  }

  static __device__ __forceinline__ int chunk() { return static_cast<int>(threadIdx.x) % kChunks; }
  static __device__ __forceinline__ int row(int pass) {
    return static_cast<int>(threadIdx.x) / kChunks + pass * kRowsAtOnce;
  }

  __device__ __forceinline__ Four read(const float* x, int64_t stride, bool aligned, int k, int pass) const {
    const int down = (kAlongK ? 0 : k) + pass * kRowsAtOnce, along = kAlongK ? k : 0;
    if (down >= rows) return {};
    return load_some(x + offset + (first_row + down) * stride + along, columns - along, aligned);
  }

  __device__ __forceinline__ void fetch(int k) {
#pragma unroll
    for (int pass = 0; pass < S::kPasses; ++pass) {
      held[pass] = read(from.x, from.stride, aligned, k, pass);
      if constexpr (kActivated) {
        if (!from.activated) continue;
        Four up = {{1.0f, 1.0f, 1.0f, 1.0f}};
        if (from.up != nullptr) up = read(from.up, from.up_stride, rows_aligned(from.up, from.up_stride), k, pass);
#pragma unroll
        for (int i = 0; i < 4; ++i) held[pass].v[i] = activate(from.f, held[pass].v[i]).value * up.v[i];
      }
    }
  }

  __device__ __forceinline__ void store(unsigned char* stage) const {
#pragma unroll
    for (int pass = 0; pass < S::kPasses; ++pass) {
      const Four& v = held[pass];
      const int r = row(pass), c = chunk();
      if constexpr (kBf16) {
        uint2 pair;
        pair.x = pack_bf16(v.v[0], v.v[1]);
        pair.y = pack_bf16(v.v[2], v.v[3]);
        *reinterpret_cast<uint2*>(stage + place(r, c / 2) + c % 2 * 8) = pair;
      } else if constexpr (kAlongK) {
#pragma unroll
        for (int i = 0; i < 4; ++i) reinterpret_cast<float*>(stage)[(4 * c + i) * S::kLine + r] = v.v[i];
      } else {
        store_pack(reinterpret_cast<float*>(stage) + r * S::kLine + 4 * c, v);
      }
    }
  }

  // The byte of chunk c (16 bytes) of stored row r.
  static __device__ __forceinline__ int place(int r, int c) {
    if constexpr (kAlongK)
      return r * 64 + (c ^ (r >> 1 & 3)) * 16;
    else
      return r * kTile * 2 + (c ^ (r & 7)) * 16;
  }
  // Sixteen rows of the tile from `r` on times sixteen k from 16 kk on, as a fragment of A or two of B.
  static __device__ __forceinline__ void fragment(uint32_t (&m)[4], const unsigned char* stage, int r, int kk,
                                                  bool of_a) {
    const int lane = threadIdx.x % 32, low = lane & 7, middle = lane >> 3 & 1, high = lane >> 4;
    const int rows = r + low + 8 * (of_a ? middle : high), ks = of_a ? high : middle;
    if constexpr (kAlongK)
      ldmatrix_x4(m, stage + place(rows, 2 * kk + ks));
    else
      ldmatrix_x4_trans(m, stage + place(16 * kk + low + 8 * ks, r / 8 + (of_a ? middle : high)));
  }
};

// What becomes of the sum at (i, j).
__device__ __forceinline__ void finish(const Product& p, int i, int j, float sum) {
  if (i >= p.m || j >= p.n) return;
  float* c = p.c + i * p.c_stride + j;
  if (p.bias != nullptr) sum += p.bias[j];
  if (p.accumulate) sum += *c;
  if (const Slope& s = p.slope; s.x != nullptr) {
    const ActivationValue f = activate(s.f, s.x[i * s.x_stride + j]);
    if (s.up != nullptr) {
      s.dup[i * s.dup_stride + j] = sum * f.value;
      sum *= s.up[i * s.up_stride + j];
    }
    sum *= f.slope;
  }
  *c = sum;
}

template <int kTile>
struct Bf16Math {
  // Warps of 64 x 32 or 32 x 32.
  static constexpr int kWarpsAcross = kTile / 32, kRows = kTile / 32, kColumns = 4;  // fragments of 16 and of 8
  float sums[kRows][kColumns][4] = {};

  static __device__ __forceinline__ int row0() { return threadIdx.x / 32 / kWarpsAcross * kRows * 16; }
  static __device__ __forceinline__ int column0() { return threadIdx.x / 32 % kWarpsAcross * 32; }

  template <class A, class B>
  __device__ __forceinline__ void multiply(const unsigned char* a_stage, const unsigned char* b_stage) {
#pragma unroll
    for (int kk = 0; kk < 2; ++kk) {
      uint32_t a[kRows][4], b[kColumns / 2][4];
#pragma unroll
      for (int i = 0; i < kRows; ++i) A::fragment(a[i], a_stage, row0() + 16 * i, kk, true);
#pragma unroll
      for (int j = 0; j < kColumns / 2; ++j) B::fragment(b[j], b_stage, column0() + 16 * j, kk, false);
#pragma unroll
      for (int i = 0; i < kRows; ++i)
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          const uint32_t half[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
          mma_bf16_16816(sums[i][j], a[i], half);
        }
    }
  }

  __device__ __forceinline__ void finish(const Product& p, int m0, int n0) const {
    const int lane = threadIdx.x % 32;
    m0 += row0() + lane / 4;
    n0 += column0() + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
#pragma unroll
        for (int q = 0; q < 4; ++q) tiles::finish(p, m0 + 16 * i + q / 2 * 8, n0 + 8 * j + q % 2, sums[i][j][q]);
  }
};

template <int kTile>
struct FloatMath {
  // 16 threads across; each has 8 rows, and of every 64 columns four.
  static constexpr int kRows = 8, kColumns = kTile / 16;
  float sums[kRows][kColumns] = {};

  static __device__ __forceinline__ int row0() { return threadIdx.x / 16 * kRows; }
  static __device__ __forceinline__ int column(int j) { return j / 4 * 64 + threadIdx.x % 16 * 4 + j % 4; }

  template <class A, class B>
  __device__ __forceinline__ void multiply(const unsigned char* a_stage, const unsigned char* b_stage) {
    using S = Shape<kTile, false>;
#pragma unroll
    for (int k = 0; k < S::kDepth; ++k) {
      const float* a_line = reinterpret_cast<const float*>(a_stage) + k * S::kLine;
      const float* b_line = reinterpret_cast<const float*>(b_stage) + k * S::kLine;
      alignas(16) float a[kRows], b[kColumns];
#pragma unroll
      for (int i = 0; i < kRows; i += 4) *reinterpret_cast<Four*>(a + i) = load_pack(a_line + row0() + i);
#pragma unroll
      for (int j = 0; j < kColumns; j += 4) *reinterpret_cast<Four*>(b + j) = load_pack(b_line + column(j));
#pragma unroll
      for (int i = 0; i < kRows; ++i)
#pragma unroll
        for (int j = 0; j < kColumns; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
    }
  }

  __device__ __forceinline__ void finish(const Product& p, int m0, int n0) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) tiles::finish(p, m0 + row0() + i, n0 + column(j), sums[i][j]);
  }
};

// C's tile from row m0 and column n0 on, by a block of 2 kTile threads. kAlongA, kAlongB: A is not, B is transposed.
// row_sums only where A is transposed.
template <int kTile, bool kBf16, bool kAlongA, bool kAlongB, bool kActivated>
__device__ __forceinline__ void multiply_tile(const Product& p, int m0, int n0) {
  using S = Shape<kTile, kBf16>;
  using A = Loader<kTile, kBf16, kAlongA, kActivated>;
  using B = Loader<kTile, kBf16, kAlongB, kActivated>;
  SHARED_ARRAY(uint4, shared, [2][2][S::kStageBytes / 16]);
  const auto stage = [&](int half, int operand) { return reinterpret_cast<unsigned char*>(shared[half][operand]); };
  A a(p.a, m0, p.m, p.k);
  B b(p.b, n0, p.n, p.k);
  std::conditional_t<kBf16, Bf16Math<kTile>, FloatMath<kTile>> math;
  const bool summing = !kAlongA && p.row_sums != nullptr && n0 == 0;
  Four row_sum = {};  // of the thread's four rows, k in steps of 8

  a.fetch(0);
  b.fetch(0);
  for (int k = 0, half = 0; k < p.k; k += S::kDepth, half ^= 1) {
    a.store(stage(half, 0));
    b.store(stage(half, 1));
    if (summing)
#pragma unroll
      for (int pass = 0; pass < S::kPasses; ++pass)
#pragma unroll
        for (int i = 0; i < 4; ++i) row_sum.v[i] += a.held[pass].v[i];
    __syncthreads();
    if (k + S::kDepth < p.k) {
      a.fetch(k + S::kDepth);
      b.fetch(k + S::kDepth);
    }
    math.template multiply<A, B>(stage(half, 0), stage(half, 1));
  }
  math.finish(p, m0, n0);
  if constexpr (!kAlongA) {
    if (!summing) return;
    __syncthreads();
    float* sums = reinterpret_cast<float*>(shared);  // [8][kTile]
    store_pack(sums + A::row(0) * kTile + 4 * A::chunk(), row_sum);
    __syncthreads();
    const int i = threadIdx.x;
    if (i >= kTile || m0 + i >= p.m) return;
    float sum = 0;
    for (int q = 0; q < A::kRowsAtOnce; ++q) sum += sums[q * kTile + i];
    p.row_sums[m0 + i] += sum;
  }
}

// f(kAlongA, kAlongB) as std::bool_constant.
template <class F>
void with_layouts(bool transpose_a, bool transpose_b, F&& f) {
  using Yes = std::true_type;
  using No = std::false_type;
  if (transpose_a) return transpose_b ? f(No{}, Yes{}) : f(No{}, No{});
  return transpose_b ? f(Yes{}, Yes{}) : f(Yes{}, No{});
}

}  // namespace lathe::kernel::tiles
