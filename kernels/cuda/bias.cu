// Column sums on a CUDA device: see column_sums.h. Limit derived at 3.0 TB/s: 4 bytes an element, 67 us for (65,536,
// 768), where half the bytes are in flight that this takes. Not measured yet: no GPU has run it.
#include "kernels/bias.h"
#include "kernels/cuda/column_sums.h"

namespace lathe::kernel {
namespace {

template <bool kVector, class T>
struct Elements {
  Rows<const T> x;
  __device__ __forceinline__ void terms(Four (&terms)[1], int64_t row, int64_t i, int64_t left) const {
    terms[0] = load_four<kVector>(row_of(x, row) + i, left);
  }
};

}  // namespace

template <class T>
void add_column_sums(Cuda on, T* sums, ConstRows<T> x, int64_t rows, int64_t n) {
  if (fours_aligned(x))
    add_column_terms<1>(on, {sums, nullptr}, rows, n, Elements<true, T>{x});
  else
    add_column_terms<1>(on, {sums, nullptr}, rows, n, Elements<false, T>{x});
}

template void add_column_sums(Cuda, float*, ConstRows<float>, int64_t, int64_t);

}  // namespace lathe::kernel
