// Layer normalisation over the last dimension.
#include "autograd/dispatch.h"
#include "autograd/norm_parts.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/norm.h"

namespace lathe {

Tensor layer_norm(const Tensor& x_, const Parameter& w, const Parameter* b, double eps) {
  check(x_.rank() > 0 && w.shape == Shape{x_.dim(-1)}, "layer_norm", "weight {} does not fit the last dim of x {}",
        w.shape, x_);
  check(!b || b->shape == w.shape, "layer_norm", "bias {} does not fit weight {}", b ? b->shape : Shape{}, w.shape);
  const Tensor x = with_row_stride(x_);
  const bool recording = Tape::recording(x, w) || (b && Tape::recording(*b));
  const Tensor weight = values_of(w, x.dtype(), "layer_norm");                                           // (n)
  const Tensor bias = b ? values_of(*b, x.dtype(), "layer_norm") : Tensor{};                             // (n)
  const Tensor statistics = recording ? Tensor::empty({2, x.rows()}, x.dtype(), x.device()) : Tensor{};  // mean, rstd
  Tensor y = like(x);
  dispatch("layer_norm", x, [&](auto on, auto element) {
    using T = decltype(element);
    Sum<T>* mean = data_or_null<Sum<T>>(statistics);
    kernel::layer_norm(on, y.data<T>(), mean, recording ? mean + x.rows() : nullptr, rows_of<T>(x),
                       weight.data<Sum<T>>(), data_or_null<Sum<T>>(bias), x.rows(), x.dim(-1), eps);
  });
  if (recording) record_layer_norm(y, x, w, b, weight, statistics);
  return y;
}

void record_layer_norm(Tensor& y, const Tensor& x, const Parameter& w, const Parameter* b, const Tensor& weight,
                       const Tensor& statistics) {
  check_gradient_dtype(w, x.dtype(), "layer_norm");
  if (b) check_gradient_dtype(*b, x.dtype(), "layer_norm");
  Tape::record("layer_norm", y, [x, &w, b, weight, statistics](const Tensor& dy, Gradients& g) {
    const auto dx = Gradients::wanted(x) ? g.place(x, Gradients::Layout::contiguous, true) : Gradients::Place{};
    const Tensor scratch = norm_backward_scratch(x);
    dispatch("layer_norm", x, [&](auto on, auto element) {
      using T = decltype(element);
      const Sum<T>* mean = statistics.data<Sum<T>>();
      kernel::layer_norm_backward(on, data_or_null<T>(dx.to), dx.accumulate, gradient_or_null<Sum<T>>(w),
                                  b ? gradient_or_null<Sum<T>>(*b) : nullptr, dy.data<T>(), rows_of<T>(x),
                                  weight.data<Sum<T>>(), mean, mean + x.rows(), x.rows(), x.dim(-1),
                                  data_or_null<Sum<T>>(scratch));
    });
    g.put(x, dx);
  });
}

}  // namespace lathe
