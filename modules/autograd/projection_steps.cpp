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
  dispatch("clamp", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::clamp(on, y.data<T>(), rows_of<T>(x), static_cast<T>(bound), x.rows(), x.dim(-1));
  });
  if (Tape::recording(x))
    Tape::record("clamp", y, [x, bound](const Tensor& dy, Gradients& g) {
      const Tensor dx = like(x);
      dispatch("clamp", x, [&](auto on, auto element) {
        using T = decltype(element);
        kernel::clamp_backward(on, dx.data<T>(), dy.data<T>(), rows_of<T>(x), static_cast<T>(bound), x.rows(),
                               x.dim(-1));
      });
      g.add(x, dx);
    });
  return y;
}

Tensor log_position_factors(const Tensor& positions, int64_t base, DType dtype) {
  check(positions.rank() == 1 && positions.dtype() == DType::i32 && base > 1, "log_position_factors",
        "needs positions (N) i32 and a base above 1, found {} and {}", positions, base);
  Tensor factors = Tensor::empty(positions.shape(), dtype, positions.device());  // (N)
  dispatch("log_position_factors", factors, [&](auto on, auto element) {
    kernel::log_position_factors(on, factors.data<decltype(element)>(), positions.data<int32_t>(), positions.dim(0),
                                 base);
  });
  return factors;
}

Tensor scale_rows(const Tensor& x_, const Tensor& factors) {
  check(x_.rank() == 2 && factors.rank() == 1 && factors.dim(0) == x_.dim(0) && factors.dtype() == x_.dtype() &&
            factors.contiguous(),
        "scale_rows", "needs x (N, n) and factors (N) of one dtype, found x {}, factors {}", x_, factors);
  const auto product = [factors](const Tensor& x) {
    Tensor y = like(x);
    dispatch("scale_rows", x, [&](auto on, auto element) {
      using T = decltype(element);
      kernel::scale_rows(on, y.data<T>(), tokens_of<T>(x), factors.data<T>(), x.dim(0), x.dim(1));
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
