// Root-mean-square normalisation over the last dimension.
#include "autograd/dispatch.h"
#include "autograd/norm_parts.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/norm.h"

namespace lathe {

Tensor rms_norm(const Tensor& x_, const Parameter& w, double eps, double offset) {
  check(x_.rank() > 0 && w.shape == Shape{x_.dim(-1)}, "rms_norm", "weight {} does not fit the last dim of x {}",
        w.shape, x_);
  const Tensor x = with_row_stride(x_);
  const bool recording = Tape::recording(x, w);
  const Tensor weight = values_of(w, x.dtype(), "rms_norm");                                    // (n)
  const Tensor rstd = recording ? Tensor::empty({x.rows()}, x.dtype(), x.device()) : Tensor{};  // (rows)
  Tensor y = like(x);
  dispatch("rms_norm", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::rms_norm(on, y.data<T>(), data_or_null<Sum<T>>(rstd), rows_of<T>(x), weight.data<Sum<T>>(), x.rows(),
                     x.dim(-1), eps, offset);
  });
  if (recording) record_rms_norm(y, x, w, weight, rstd, offset);
  return y;
}

void record_rms_norm(Tensor& y, const Tensor& x, const Parameter& w, const Tensor& weight, const Tensor& rstd,
                     double offset) {
  check_gradient_dtype(w, x.dtype(), "rms_norm");
  Tape::record("rms_norm", y, [x, &w, weight, rstd, offset](const Tensor& dy, Gradients& g) {
    const auto dx = Gradients::wanted(x) ? g.place(x, Gradients::Layout::contiguous, true) : Gradients::Place{};
    const Tensor scratch = norm_backward_scratch(x);
    dispatch("rms_norm", x, [&](auto on, auto element) {
      using T = decltype(element);
      kernel::rms_norm_backward(on, data_or_null<T>(dx.to), dx.accumulate, gradient_or_null<Sum<T>>(w), dy.data<T>(),
                                rows_of<T>(x), weight.data<Sum<T>>(), rstd.data<Sum<T>>(), x.rows(), x.dim(-1), offset,
                                data_or_null<Sum<T>>(scratch));
    });
    g.put(x, dx);
  });
}

Tensor norm_backward_scratch(const Tensor& x) {
  const int64_t elements = dispatch_size(
      "norm_backward", x, [&](auto on) { return kernel::norm_backward_scratch(on, x.rows(), x.dim(-1)); });
  return elements > 0 ? Tensor::empty({elements}, DType::f32, x.device()) : Tensor();
}

}  // namespace lathe
