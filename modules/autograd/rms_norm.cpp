// Root-mean-square normalisation over the last dimension.
#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/norm.h"

namespace lathe {

Tensor rms_norm(const Tensor& x_, const Parameter& w, double eps, double offset) {
  check(x_.rank() > 0 && w.shape == Shape{x_.dim(-1)}, "rms_norm", "weight {} does not fit the last dim of x {}",
        w.shape, x_);
  const Tensor x = with_row_stride(x_);
  const bool recording = Tape::recording(x, w);
  const Tensor weight = values_of(w, x.dtype(), "rms_norm");                        // (n)
  const Tensor rstd = recording ? Tensor::empty({x.rows()}, x.dtype()) : Tensor{};  // (rows)
  Tensor y = like(x);
  dispatch("rms_norm", x, [&](auto element) {
    using T = decltype(element);
    cpu::rms_norm(y.data<T>(), recording ? rstd.data<T>() : nullptr, x.data<T>(), row_stride(x), weight.data<T>(),
                  x.rows(), x.dim(-1), static_cast<T>(eps), static_cast<T>(offset));
  });
  if (!recording) return y;
  check_gradient_dtype(w, x.dtype(), "rms_norm");
  Tape::record("rms_norm", y, [x, &w, weight, rstd, offset](const Tensor& dy, Gradients& g) {
    const Tensor dx = Gradients::wanted(x) ? like(x) : Tensor{};
    dispatch("rms_norm", x, [&](auto element) {
      using T = decltype(element);
      cpu::rms_norm_backward(dx.defined() ? dx.data<T>() : nullptr, w.trainable ? w.gradient().data<T>() : nullptr,
                             dy.data<T>(), x.data<T>(), row_stride(x), weight.data<T>(), rstd.data<T>(), x.rows(),
                             x.dim(-1), static_cast<T>(offset));
    });
    if (dx.defined()) g.add(x, dx);
  });
  return y;
}

}  // namespace lathe
