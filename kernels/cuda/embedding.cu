// Embedding look-up, row selection and the gradient of an embedding on a CUDA device.
//
// The gradient needs the tokens of equal id to meet in one order, with neither atomics nor scratch: the first token of
// an id owns it. Its block looks back over the ids (4 bytes a token) and ends where it finds its own; an owner then
// looks ahead, gathers 256 ids at a time, and adds the rows that match in ascending order. That is one read of dy, and
// a read and a write of each row of the table that is met.
//
// Limits derived at 3.0 TB/s: look-up 8 bytes an element from an f32 table; gradient 4 bytes an element and 8 of each
// distinct id: 67 us and some 30 us for (65,536, 768) with 15,000 distinct ids. The ids are looked at by owners alone
// in full: 15,000 x 65,536 comparisons are some 0.15 ms of instructions. Not measured yet: no GPU has run it.
#include "kernels/cuda/block_formats.h"
#include "kernels/embedding.h"

namespace lathe::kernel {
namespace {

template <bool kVector, class T>
struct SelectRows {
  T* y;
  Rows<const T> x;
  const int32_t* ids;
  int64_t columns;
  __device__ void operator()(int64_t row, int64_t item) const {
    const int64_t i = 4 * item, left = columns - i;
    store_four<kVector>(y + row * columns + i, load_four<kVector>(row_of(x, ids[row]) + i, left), left);
  }
};

constexpr int kThreads = 256;

// Block (token, 1,024 columns); each thread has four columns.
template <bool kVector, class T>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_kernel(float* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t columns) {
  SHARED_ARRAY(int32_t, matches, [kThreads]);
  SHARED_ARRAY(int32_t, counts, [kThreads / 32]);
  const int64_t own = blockIdx.x;
  const int32_t id = ids[own];
  const int tid = static_cast<int>(threadIdx.x), lane = tid % 32, warp = tid / 32;
  for (int64_t end = own; end > 0; end -= kThreads) {  // from the nearest: frequent ids are found at once
    const int64_t at = end - 1 - tid;
    if (__syncthreads_or(at >= 0 && ids[at] == id)) return;
  }
  const int64_t i = 4 * (int64_t{blockIdx.y} * kThreads + tid), left = columns - i;
  Four sum = {};
  float* const out = dtable + id * columns + i;
  if (left > 0) sum = load_four<kVector>(out, left);
  for (int64_t begin = own; begin < n; begin += kThreads) {
    const bool match = begin + tid < n && ids[begin + tid] == id;
    const unsigned votes = __ballot_sync(kAllLanes, match);
    if (lane == 0) counts[warp] = __popc(votes);
    __syncthreads();
    int before = 0, count = 0;
    for (int w = 0; w < kThreads / 32; ++w) {
      before += w < warp ? counts[w] : 0;
      count += counts[w];
    }
    if (match) matches[before + __popc(votes & ((1u << lane) - 1))] = tid;
    __syncthreads();
    if (left > 0) {
#pragma unroll 4
      for (int k = 0; k < count; ++k) {
        const Four d = load_four<kVector>(dy + (begin + matches[k]) * columns + i, left);
#pragma unroll
        for (int j = 0; j < 4; ++j) sum.v[j] += d.v[j];
      }
    }
    // The next round's first barrier comes before its `matches`; its `counts` are read before the barrier above.
  }
  if (left > 0) store_four<kVector>(out, sum, left);
}

}  // namespace

void embedding(Cuda on, float* y, const void* table, DType dtype, size_t row_bytes, const int32_t* ids, int64_t n,
               int64_t columns) {
  widen_rows(on, y, table, dtype, row_bytes, ids, n, columns);
}

template <class T>
void select_rows(Cuda on, T* y, ConstRows<T> x, const int32_t* ids, int64_t n, int64_t columns) {
  if (columns % 4 == 0 && fours_aligned(y) && fours_aligned(x))
    over_grid(on, n, ceil_divide(columns, 4), SelectRows<true, T>{y, x, ids, columns});
  else
    over_grid(on, n, ceil_divide(columns, 4), SelectRows<false, T>{y, x, ids, columns});
}

template <class T>
void embedding_backward(Cuda on, Sum<T>* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t columns) {
  if (n == 0 || columns == 0) return;
  const dim3 grid(static_cast<unsigned>(n), static_cast<unsigned>(ceil_divide(columns, 4 * kThreads)));
  if (columns % 4 == 0 && fours_aligned(dtable) && fours_aligned(dy))
    LAUNCH((embedding_backward_kernel<true, T>), grid, dim3(kThreads), 0, on.stream, dtable, dy, ids, n, columns);
  else
    LAUNCH((embedding_backward_kernel<false, T>), grid, dim3(kThreads), 0, on.stream, dtable, dy, ids, n, columns);
}

template void select_rows(Cuda, float*, ConstRows<float>, const int32_t*, int64_t, int64_t);
template void embedding_backward(Cuda, float*, const float*, const int32_t*, int64_t, int64_t);

}  // namespace lathe::kernel
