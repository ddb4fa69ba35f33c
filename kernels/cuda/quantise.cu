// Conversions of stored rows on a CUDA device. Limit derived at 3.0 TB/s: the bytes read and written; 256 columns of
// Q4_K are 144 and 1,024 bytes. Not measured yet: no GPU has run it.
#include "kernels/cuda/block_formats.h"
#include "kernels/quantise.h"

namespace lathe::kernel {
namespace {

template <class T, bool kVector>
struct NarrowRows {
  T* y;
  const float* x;
  int64_t columns;
  int32_t* lost;

  __device__ void operator()(int64_t row, int64_t item) const {
    constexpr uint32_t kExponent = std::is_same_v<T, f16> ? 0x7c00u : 0x7f80u;  // of infinity and of NaN
    const int64_t i = 4 * item, left = columns - i, at = row * columns + i;
    const Four v = load_four<kVector>(x + at, left);
    bool held = true;
#pragma unroll
    for (int j = 0; j < 4; ++j) held &= (from_float<T>(v.v[j]).bits & kExponent) != kExponent;
    store_four<kVector>(y + at, v, left);
    if (!held && lost != nullptr) atomicMin(lost, static_cast<int32_t>(row));
  }
};

template <class T>
void narrow_rows(Cuda on, T* y, const float* x, int64_t rows, int64_t columns, int32_t* lost) {
  const int64_t items = ceil_divide(columns, 4);
  if (columns % 4 == 0 && fours_aligned(x) && fours_aligned(y))
    over_grid(on, rows, items, NarrowRows<T, true>{y, x, columns, lost});
  else
    over_grid(on, rows, items, NarrowRows<T, false>{y, x, columns, lost});
}

}  // namespace

void dequantise_rows(Cuda on, float* y, const void* x, DType dtype, int64_t rows, int64_t columns) {
  widen_rows(on, y, x, dtype, bytes_of(dtype, columns), nullptr, rows, columns);
}

void quantise_rows(Cuda on, void* y, const float* x, DType dtype, int64_t rows, int64_t columns, int32_t* lost) {
  if (dtype == DType::f16)
    narrow_rows(on, static_cast<f16*>(y), x, rows, columns, lost);
  else
    narrow_rows(on, static_cast<bf16*>(y), x, rows, columns, lost);
}

}  // namespace lathe::kernel
