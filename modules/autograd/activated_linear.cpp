// The product that ends a feed-forward net, over the activation of what its input projections gave. What is multiplied,
// the widest tensor of a block, never exists: it is computed a block at a time while the product packs it, forward and
// for the weight's gradient, and the activation's slope is applied to a block of the input's gradient when it is done.
#include "autograd/dispatch.h"
#include "autograd/linear_parts.h"
#include "autograd/low_rank.h"
#include "autograd/precision.h"
#include "autograd/tape.h"
#include "kernels/bias.h"
#include "kernels/gemm.h"

namespace lathe {
namespace {

// Rows of a tensor that may be undefined.
template <class T>
Rows<T> rows_or_null(const Tensor& x) {
  return x.defined() ? tokens_of<T>(x) : Rows<T>{};
}

void product_gradients(const Tensor& dy, const Tensor& gate, const Tensor& up, Activation f, const LinearWeight& w) {
  dispatch("activated_linear", dy, [&](auto on, auto element) {
    using T = decltype(element);
    T* const bias = w.bias ? gradient_or_null<T>(*w.bias) : nullptr;
    if (w.weight->trainable)
      kernel::gemm<T>(on, tokens_of<T>(w.weight->gradient()), tokens_of<T>(dy), true, tokens_of<T>(gate), false,
                      dy.dim(1), gate.dim(1), dy.dim(0), true,
                      {.arithmetic = Precision::products(),
                       .row_sums = bias,
                       .activated_b = GemmActivated<T>{f, rows_or_null<T>(up)}});
    else if (bias != nullptr)
      kernel::add_column_sums(on, bias, tokens_of<T>(dy), dy.dim(0), dy.dim(1));
  });
}

}  // namespace

Tensor activated_linear(const Tensor& gate, const Tensor& up, Activation f, const LinearWeight& w) {
  const int64_t columns = check_parts(gate, {&w, 1});
  check(!up.defined() || (up.shape() == gate.shape() && up.dtype() == gate.dtype()), "activated_linear",
        "gate and up must be alike, {} and {}", gate, up);
  if (w.weight->packed || w.weight->low_rank || Active<RowChanges>::current())
    return linear(up.defined() ? gated_activation(gate, up, f) : activation(gate, f), w);
  const Tensor weight = values_of(*w.weight, gate.dtype(), "linear");                  // (out, in)
  const Tensor bias = w.bias ? values_of(*w.bias, gate.dtype(), "linear") : Tensor{};  // (out)
  Tensor y = Tensor::empty({gate.dim(0), columns}, gate.dtype(), gate.device());       // (N, out)
  dispatch("activated_linear", gate, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::gemm<T>(on, tokens_of<T>(y), tokens_of<T>(gate), false, tokens_of<T>(weight), true, y.dim(0), columns,
                    gate.dim(1), false,
                    {.arithmetic = Precision::products(),
                     .bias = data_or_null<T>(bias),
                     .activated_a = GemmActivated<T>{f, rows_or_null<T>(up)}});
  });
  if (!linear_records(gate, {&w, 1}) && !Tape::recording(up)) return y;
  Tape::record("activated_linear", y, [gate, up, f, w](const Tensor& dy, Gradients& g) {
    product_gradients(dy, gate, up, f, w);
    if (!Gradients::wanted(gate) && !Gradients::wanted(up)) return;
    const Gradients::Place dgate = g.place(gate, Gradients::Layout::rows);  // (N, in)
    const auto dup = up.defined() ? g.place(up, Gradients::Layout::rows) : Gradients::Place{};
    const Tensor weight = values_of(*w.weight, gate.dtype(), "linear");  // (out, in)
    dispatch("activated_linear", gate, [&](auto on, auto element) {
      using T = decltype(element);
      kernel::gemm<T>(on, tokens_of<T>(dgate.to), tokens_of<T>(dy), false, tokens_of<T>(weight), false, dy.dim(0),
                      gate.dim(1), dy.dim(1), false,
                      {.arithmetic = Precision::products(),
                       .slope = GemmSlope<T>{f, tokens_of<T>(gate), rows_or_null<T>(up), rows_or_null<T>(dup.to)}});
    });
    g.put(gate, dgate);
    if (up.defined()) g.put(up, dup);
  });
  return y;
}

}  // namespace lathe
