// Embedding look-up, row selection and the gradient of an embedding on a CUDA device.
//
// The gradient needs the tokens of equal id to meet in one order, with neither atomics nor scratch: the first token of
// an id owns it. Its block looks back over the ids, 2,048 at a time, and ends where it finds its own; an owner then
// looks ahead, and its eight warps take the rows that match in turn; their sums are added in order. That is one read of
// dy, a read and a write of each row of the table that is met, and the ids, which the second-level cache holds.
//
// Limits derived at 3.0 TB/s: look-up 8 bytes an element from an f32 table; gradient 4 bytes an element and 8 of each
// distinct id: 67 us and some 30 us for (65,536, 768) with 15,000 distinct ids. What may bind instead: an owner's 32
// rounds of some 0.2 us, on 132 multiprocessors with 5 blocks each 0.15 ms; an id that has 4% of the tokens, 8 MB with
// 24 KB in flight: 0.25 ms. Not measured yet: no GPU has run it.
#include "kernels/cuda/block_formats.h"
#include "kernels/embedding.h"

namespace lathe::kernel {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps, kColumns = 1024;  // of a block
constexpr int kIdsOfThread = 8, kRound = kThreads * kIdsOfThread;   // ids looked at in a round

// Bit q: whether ids[at + q * kThreads] is `id`, at being the thread's first of a round that ends at `end`.
__device__ __forceinline__ unsigned matching(const int32_t* ids, int32_t id, int64_t at, int64_t end) {
  unsigned mask = 0;
#pragma unroll
  for (int q = 0; q < kIdsOfThread; ++q)
    if (at + q * kThreads < end && ids[at + q * kThreads] == id) mask |= 1u << q;
  return mask;
}

// Block (token, kColumns columns).
template <bool kVector, class T>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_kernel(float* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t columns) {
  SHARED_ARRAY(int32_t, rows, [kRound]);  // those of a round that match
  SHARED_ARRAY(int32_t, counts, [kWarps]);
  SHARED_ARRAY(float, sums, [kWarps][kColumns]);
  const int64_t own = blockIdx.x, first = int64_t{kColumns} * blockIdx.y;
  const int32_t id = ids[own];
  const int tid = static_cast<int>(threadIdx.x), lane = tid % 32, warp = tid / 32;
  for (int64_t end = own; end > 0; end -= kRound) {  // from the nearest on: frequent ids are found at once
    const int64_t begin = end > kRound ? end - kRound : 0;
    if (__syncthreads_or(matching(ids, id, begin + tid, end) != 0)) return;
  }
  Four sum[kColumns / 128] = {};
  for (int64_t begin = own; begin < n; begin += kRound) {
    const unsigned mask = matching(ids, id, begin + tid, n);
    if (!__syncthreads_or(mask != 0)) continue;
    int place = warp_scan(__popc(mask));  // the number of matches up to this thread's last
    if (lane == 31) counts[warp] = place;
    place -= __popc(mask);
    __syncthreads();
    int count = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      place += w < warp ? counts[w] : 0;
      count += counts[w];
    }
#pragma unroll
    for (int q = 0; q < kIdsOfThread; ++q)
      if (mask >> q & 1) rows[place++] = q * kThreads + tid;
    __syncthreads();
    for (int k = warp; k < count; k += kWarps) {
      const T* const row = dy + (begin + rows[k]) * columns + first;
#pragma unroll
      for (int c = 0; c < kColumns / 128; ++c) {
        const int64_t left = columns - first - (128 * c + 4 * lane);
        if (left <= 0) continue;
        const Four d = load_four<kVector>(row + 128 * c + 4 * lane, left);
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[c].v[j] += d.v[j];
      }
    }
  }
#pragma unroll
  for (int c = 0; c < kColumns / 128; ++c)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[warp][128 * c + 4 * lane + j] = sum[c].v[j];
  __syncthreads();
  const int64_t width = columns - first < kColumns ? columns - first : kColumns;
  for (int i = tid; i < width; i += kThreads) {
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += sums[w][i];
    dtable[id * columns + first + i] += total;
  }
}

}  // namespace

void embedding(Cuda on, float* y, const void* table, DType dtype, size_t row_bytes, const int32_t* ids, int64_t n,
               int64_t columns) {
  widen_rows(on, y, table, dtype, row_bytes, ids, n, columns);
}

template <>
void select_rows(Cuda on, float* y, ConstRows<float> x, const int32_t* ids, int64_t n, int64_t columns) {
  widen_rows(on, y, x.data, DType::f32, sizeof(float) * static_cast<size_t>(x.stride), ids, n, columns);
}

template <class T>
void embedding_backward(Cuda on, Sum<T>* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t columns) {
  if (n == 0 || columns == 0) return;
  const dim3 grid(static_cast<unsigned>(n), blocks_of(columns, kColumns));
  if (columns % 4 == 0 && fours_aligned(dy))
    LAUNCH((embedding_backward_kernel<true, T>), grid, dim3(kThreads), 0, on.stream, dtable, dy, ids, n, columns);
  else
    LAUNCH((embedding_backward_kernel<false, T>), grid, dim3(kThreads), 0, on.stream, dtable, dy, ids, n, columns);
}

template void embedding_backward(Cuda, float*, const float*, const int32_t*, int64_t, int64_t);

}  // namespace lathe::kernel
