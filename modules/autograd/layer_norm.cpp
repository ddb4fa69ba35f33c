// Layer normalisation over the last dimension.
#include "autograd/dispatch.h"
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
  const Tensor weight = values_of(w, x.dtype(), "layer_norm");                               // (n)
  const Tensor bias = b ? values_of(*b, x.dtype(), "layer_norm") : Tensor{};                 // (n)
  const Tensor statistics = recording ? Tensor::empty({2, x.rows()}, x.dtype()) : Tensor{};  // mean, rstd
  Tensor y = like(x);
  dispatch("layer_norm", x, [&](auto element) {
    using T = decltype(element);
    T* mean = recording ? statistics.data<T>() : nullptr;
    cpu::layer_norm(y.data<T>(), mean, recording ? mean + x.rows() : nullptr, x.data<T>(), row_stride(x),
                    weight.data<T>(), b ? bias.data<T>() : nullptr, x.rows(), x.dim(-1), static_cast<T>(eps));
  });
  if (!recording) return y;
  check_gradient_dtype(w, x.dtype(), "layer_norm");
  if (b) check_gradient_dtype(*b, x.dtype(), "layer_norm");
  Tape::record("layer_norm", y, [x, &w, b, weight, statistics](const Tensor& dy, Gradients& g) {
    const Tensor dx = Gradients::wanted(x) ? like(x) : Tensor{};
    dispatch("layer_norm", x, [&](auto element) {
      using T = decltype(element);
      const T* mean = statistics.data<T>();
      cpu::layer_norm_backward(dx.defined() ? dx.data<T>() : nullptr, w.trainable ? w.gradient().data<T>() : nullptr,
                               b && b->trainable ? b->gradient().data<T>() : nullptr, dy.data<T>(), x.data<T>(),
                               row_stride(x), weight.data<T>(), mean, mean + x.rows(), x.rows(), x.dim(-1));
    });
    if (dx.defined()) g.add(x, dx);
  });
  return y;
}

}  // namespace lathe
