// Every conversion passes through rows of f32, which holds the values of all stored formats exactly.
#include "autograd/convert.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "autograd/dispatch.h"
#include "kernels/quantise.h"
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

// Gathers the rows that hold what the new dtype cannot, from any thread, and tells of the first.
class RangeCheck {
 public:
  void out_of_range(int64_t row) {
    for (int64_t first = first_; row < first && !first_.compare_exchange_weak(first, row);) continue;
  }
  // `values` as f32 or f64.
  void throw_if_any(const Tensor& values, DType dtype, const std::string& tensor) const {
    if (first_ == kNone) return;
    double worst = 0;
    for (int64_t i = 0; i < columns(values); ++i) {
      const int64_t at = first_ * columns(values) + i;
      const double v =
          values.dtype() == DType::f64 ? values.host<double>()[at] : static_cast<double>(values.host<float>()[at]);
      if (!(std::abs(v) <= std::abs(worst)) && !std::isnan(worst)) worst = v;
    }
    throw Error(fmt::format("convert: {}row {} holds {}, which {} cannot hold", tensor.empty() ? "" : tensor + ": ",
                            first_.load(), worst, name(dtype)),
                std::isfinite(worst) ? "f16 ends at 65504, and so do the scales of block formats: bfloat16 and float32 "
                                       "reach further"
                                     : "a weight that is no number comes from a damaged checkpoint");
  }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> first_ = kNone;
};

bool narrow(const double* x, float* y, int64_t count) {
  bool held = true;
  for (int64_t i = 0; i < count; ++i) {
    y[i] = static_cast<float>(x[i]);
    held &= !std::isinf(y[i]) || std::isinf(x[i]);
  }
  return held;
}

Tensor to_f32(const Tensor& x, const std::string& tensor) {
  Tensor y = Tensor::empty(x.shape(), DType::f32, x.device());
  RangeCheck range;
  for_rows(x, [&](int64_t row) {
    float* out = reinterpret_cast<float*>(row_of(y, row));
    if (x.dtype() != DType::f64)
      dequantise_row(out, row_of(x, row), x.dtype(), columns(x));
    else if (!narrow(reinterpret_cast<const double*>(row_of(x, row)), out, columns(x)))
      range.out_of_range(row);
  });
  range.throw_if_any(x, DType::f32, tensor);
  return y;
}

// On a CUDA device; block formats are made on the host.
Tensor convert_on_device(const Tensor& x, DType dtype, const std::string& tensor) {
  check(x.dtype() != DType::f64 && dtype != DType::f64, "convert", "no conversion of {} to {}", x, name(dtype));
  Tensor values = x.dtype() == DType::f32 ? x : Tensor::empty(x.shape(), DType::f32, x.device());
  if (x.dtype() != DType::f32)
    dispatch_device("convert", x, [&]([[maybe_unused]] auto on) {
      if constexpr (std::is_same_v<decltype(on), Cuda>)
        kernel::dequantise_rows(on, values.data<float>(), x.raw(), x.dtype(), row_count(x), columns(x));
    });
  if (dtype == DType::f32) return values;
  if (is_quantised(dtype)) return convert(values.to(Device{}), dtype, tensor).to(x.device());
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  constexpr int32_t kNone = std::numeric_limits<int32_t>::max();
  const Tensor lost = Tensor::of<int32_t>({1}, &kNone).to(x.device());
  dispatch_device("convert", x, [&]([[maybe_unused]] auto on) {
    if constexpr (std::is_same_v<decltype(on), Cuda>)
      kernel::quantise_rows(on, y.raw(), values.data<float>(), dtype, row_count(x), columns(x), lost.data<int32_t>());
  });
  if (const int32_t row = *lost.to(Device{}).host<int32_t>(); row != kNone) {
    RangeCheck range;
    range.out_of_range(row);
    range.throw_if_any(values.to(Device{}), dtype, tensor);
  }
  return y;
}

}  // namespace

Tensor convert(const Tensor& source, DType dtype, const std::string& tensor) {
  check(source.defined(), "convert", "the tensor holds nothing, asked for {}", name(dtype));
  Tensor x = source.contiguous() ? source : source.clone();
  x.tape_id = 0;
  if (x.dtype() == dtype) return x;
  if (x.device().kind == Device::Kind::plan) return Tensor::empty(x.shape(), dtype, x.device());
  check(x.dtype() != DType::i32 && dtype != DType::i32, "convert", "no conversion of {} to {}", x, name(dtype));
  if (x.device().kind == Device::Kind::cuda) return convert_on_device(x, dtype, tensor);
  if (dtype == DType::f32) return to_f32(x, tensor);
  const Tensor values = x.dtype() == DType::f32 ? x : to_f32(x, tensor);
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  RangeCheck range;
  for_rows(x, [&](int64_t row) {
    const float* in = reinterpret_cast<const float*>(row_of(values, row));
    if (dtype == DType::f64) {
      std::copy_n(in, columns(x), reinterpret_cast<double*>(row_of(y, row)));
      return;
    }
    quantise_row(row_of(y, row), in, dtype, columns(x));
    if (!row_holds(row_of(y, row), in, dtype, columns(x))) range.out_of_range(row);
  });
  range.throw_if_any(values, dtype, tensor);
  return y;
}

}  // namespace lathe
