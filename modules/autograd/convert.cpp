// Every conversion passes through rows of f32, which holds the values of all stored formats exactly.
#include "autograd/convert.h"

#include <algorithm>

#include "kernels/packed_linear.h"
#include "tensor/threads.h"

namespace lathe {
namespace {

// Elements of a row: of the last dimension, where formats have their blocks.
int64_t columns(const Tensor& x) { return x.rank() ? x.dim(-1) : 1; }
int64_t row_count(const Tensor& x) { return x.rank() ? x.rows() : 1; }

// f(row) for every row, on the team where there is work for it.
template <class F>
void for_rows(const Tensor& x, F&& f) {
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, columns(x)));
  parallel_for(row_count(x), grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) f(row);
  });
}

char* row_of(const Tensor& x, int64_t row) {
  return static_cast<char*>(x.raw()) + static_cast<size_t>(row) * bytes_of(x.dtype(), columns(x));
}

Tensor to_f32(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), DType::f32);
  for_rows(x, [&](int64_t row) {
    float* out = reinterpret_cast<float*>(row_of(y, row));
    if (x.dtype() == DType::f64)
      std::copy_n(reinterpret_cast<const double*>(row_of(x, row)), columns(x), out);
    else
      cpu::dequantise_row(out, row_of(x, row), x.dtype(), columns(x));
  });
  return y;
}

}  // namespace

Tensor convert(const Tensor& source, DType dtype) {
  check(source.defined(), "convert", "the tensor holds nothing, asked for {}", name(dtype));
  Tensor x = source.contiguous() ? source : source.clone();
  x.tape_id = 0;
  if (x.dtype() == dtype) return x;
  check(x.dtype() != DType::i32 && dtype != DType::i32, "convert", "no conversion of {} to {}", x, name(dtype));
  if (dtype == DType::f32) return to_f32(x);
  const Tensor values = x.dtype() == DType::f32 ? x : to_f32(x);
  Tensor y = Tensor::empty(x.shape(), dtype);
  for_rows(x, [&](int64_t row) {
    const float* in = reinterpret_cast<const float*>(row_of(values, row));
    if (dtype == DType::f64)
      std::copy_n(in, columns(x), reinterpret_cast<double*>(row_of(y, row)));
    else
      cpu::quantise_row(row_of(y, row), in, dtype, columns(x));
  });
  return y;
}

}  // namespace lathe
