// Products with one or several weights over one input.
#include "autograd/dispatch.h"
#include "autograd/linear_parts.h"
#include "autograd/tape.h"

namespace lathe {

Tensor linear(const Tensor& x, std::span<const LinearWeight> parts) {
  const int64_t columns = check_parts(x, parts);
  Tensor y = Tensor::empty({x.dim(0), columns}, x.dtype(), x.device());  // (N, out_0 + out_1 + ...)
  linear_forward(y, x, parts);
  if (!linear_records(x, parts)) return y;
  const Tensor saved = backward_reads_input(parts) ? x : x.without_elements();
  Tape::record("linear", y, [saved, parts = std::vector(parts.begin(), parts.end())](const Tensor& dy, Gradients& g) {
    // dx (N, in)
    const auto dx = Gradients::wanted(saved) ? g.place(saved, Gradients::Layout::tokens, true) : Gradients::Place{};
    linear_backward(dx.to, dx.accumulate, dy, saved, parts);
    g.put(saved, dx);
  });
  return y;
}

Tensor linear(const Tensor& x, const LinearWeight& w) { return linear(x, std::span(&w, 1)); }

}  // namespace lathe
