// Sums, products and multiples of whole tensors.
#include "autograd/dispatch.h"
#include "autograd/norm_parts.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/activation.h"

namespace lathe {
namespace {

void check_alike(const char* operation, const Tensor& a, const Tensor& b) {
  check(a.defined() && a.shape() == b.shape() && a.dtype() == b.dtype(), operation, "the two must be alike, {} and {}",
        a, b);
}

Tensor product(const Tensor& a, const Tensor& b) {
  Tensor y = like(a);
  dispatch("multiply", a, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::multiply(on, y.data<T>(), a.data<T>(), b.data<T>(), a.elements());
  });
  return y;
}

Tensor multiple(const Tensor& x, double factor) {
  Tensor y = like(x);
  dispatch("scale", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::scale(on, y.data<T>(), x.data<T>(), factor, x.elements());
  });
  return y;
}

}  // namespace

Tensor add(const Tensor& a_, const Tensor& b_) {
  check_alike("add", a_, b_);
  const Tensor a = as_contiguous(a_), b = as_contiguous(b_);
  Tensor y = like(a);
  dispatch("add", a, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::add(on, y.data<T>(), a.data<T>(), b.data<T>(), a.elements());
  });
  if (Tape::recording(a, b)) record_sum(y, a, b);
  return y;
}

void record_sum(Tensor& y, const Tensor& a, const Tensor& b) {
  Tape::record("add", y, [a = a.without_elements(), b = b.without_elements()](const Tensor& dy, Gradients& g) {
    g.add(a, dy);
    g.add(b, dy);
  });
}

Tensor multiply(const Tensor& a_, const Tensor& b_) {
  check_alike("multiply", a_, b_);
  const Tensor a = as_contiguous(a_), b = as_contiguous(b_);
  Tensor y = product(a, b);
  if (Tape::recording(a, b))
    Tape::record("multiply", y, [a, b](const Tensor& dy, Gradients& g) {
      const Tensor d = dy.view(a.shape());
      if (Gradients::wanted(a)) g.add(a, product(d, b));
      if (Gradients::wanted(b)) g.add(b, product(d, a));
    });
  return y;
}

Tensor scale(const Tensor& x_, double factor) {
  const Tensor x = as_contiguous(x_);
  Tensor y = multiple(x, factor);
  if (Tape::recording(x))
    Tape::record("scale", y, [x = x.without_elements(), factor](const Tensor& dy, Gradients& g) {
      g.add(x, multiple(dy, factor));
    });
  return y;
}

}  // namespace lathe
