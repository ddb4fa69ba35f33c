// Steps between a projection and attention: clamp, and a factor by row.
#include "kernels/projection_steps.h"

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"

namespace lathe {

Tensor clamp(const Tensor& x_, double bound) {
  check(x_.rank() > 0 && bound > 0.0, "clamp", "the bound must be above 0 and x have a dimension, found {} and {}",
        bound, x_);
  const Tensor x = with_row_stride(x_);
  Tensor y = like(x);
  dispatch("clamp", x, [&](auto element) {
    using T = decltype(element);
    cpu::clamp(y.data<T>(), x.data<T>(), row_stride(x), static_cast<T>(bound), x.rows(), x.dim(-1));
  });
  if (Tape::recording(x))
    Tape::record("clamp", y, [x, bound](const Tensor& dy, Gradients& g) {
      const Tensor dx = like(x);
      dispatch("clamp", x, [&](auto element) {
        using T = decltype(element);
        cpu::clamp_backward(dx.data<T>(), dy.data<T>(), x.data<T>(), row_stride(x), static_cast<T>(bound), x.rows(),
                            x.dim(-1));
      });
      g.add(x, dx);
    });
  return y;
}

Tensor scale_rows(const Tensor& x_, const Tensor& factors) {
  check(x_.rank() == 2 && factors.rank() == 1 && factors.dim(0) == x_.dim(0) && factors.dtype() == x_.dtype() &&
            factors.contiguous(),
        "scale_rows", "needs x (N, n) and factors (N) of one dtype, found x {}, factors {}", x_, factors);
  const auto product = [factors](const Tensor& x) {
    Tensor y = like(x);
    dispatch("scale_rows", x, [&](auto element) {
      using T = decltype(element);
      cpu::scale_rows(y.data<T>(), x.data<T>(), x.stride(), factors.data<T>(), x.dim(0), x.dim(1));
    });
    return y;
  };
  Tensor y = product(x_);
  if (Tape::recording(x_))
    Tape::record("scale_rows", y,
                 [x = x_.without_elements(), product](const Tensor& dy, Gradients& g) { g.add(x, product(dy)); });
  return y;
}

}  // namespace lathe
