// Activation functions, plain and gated.
#include "kernels/activation.h"

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"

namespace lathe {

Tensor activation(const Tensor& x_, Activation f) {
  check(x_.rank() > 0, "activation", "x must have a dimension, found {}", x_);
  const Tensor x = with_row_stride(x_);
  Tensor y = like(x);
  dispatch("activation", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::activation(on, y.data<T>(), rows_of<T>(x), x.rows(), x.dim(-1), f);
  });
  if (Tape::recording(x))
    Tape::record("activation", y, [x, f](const Tensor& dy, Gradients& g) {
      const Gradients::Place dx = g.place(x, Gradients::Layout::contiguous);
      dispatch("activation", x, [&](auto on, auto element) {
        using T = decltype(element);
        kernel::activation_backward(on, dx.to.data<T>(), dy.data<T>(), rows_of<T>(x), x.rows(), x.dim(-1), f);
      });
      g.put(x, dx);
    });
  return y;
}

Tensor gated_activation(const Tensor& gate_, const Tensor& up_, Activation f) {
  check(gate_.rank() > 0 && gate_.shape() == up_.shape() && gate_.dtype() == up_.dtype(), "gated_activation",
        "gate and up must be alike, gate {}, up {}", gate_, up_);
  const Tensor gate = with_row_stride(gate_), up = with_row_stride(up_);
  Tensor y = like(gate);
  dispatch("gated_activation", gate, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::gated_activation(on, y.data<T>(), rows_of<T>(gate), rows_of<T>(up), gate.rows(), gate.dim(-1), f);
  });
  if (Tape::recording(gate, up))
    Tape::record("gated_activation", y, [gate, up, f](const Tensor& dy, Gradients& g) {
      const auto place = [&](const Tensor& x) { return g.place(x, Gradients::Layout::rows); };
      const Gradients::Place dgate = place(gate), dup = place(up);
      dispatch("gated_activation", gate, [&](auto on, auto element) {
        using T = decltype(element);
        kernel::gated_activation_backward(on, rows_of<T>(dgate.to), rows_of<T>(dup.to), dy.data<T>(), rows_of<T>(gate),
                                          rows_of<T>(up), gate.rows(), gate.dim(-1), f);
      });
      g.put(gate, dgate);
      g.put(up, dup);
    });
  return y;
}

}  // namespace lathe
