// Rotary position embedding. A rotation's transpose is the rotation back, so nothing but the angles is saved.
#include "kernels/rope.h"

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"

namespace lathe {
namespace {

void rotate(const Tensor& y, const Tensor& x, const RopeAngles& angles, int direction) {
  dispatch("rope", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::rope(on, y.data<T>(), tokens_of<T>(x), angles.cos.data<T>(), angles.sin.data<T>(), x.dim(0), x.dim(1),
                 x.dim(2), 2 * angles.cos.dim(1), angles.style, direction);
  });
}

}  // namespace

Tensor rope(const Tensor& x, const RopeAngles& angles) {
  const Tensor &cos = angles.cos, &sin = angles.sin;
  check(x.rank() == 3, "rope", "x must be (N, H, D), found {}", x);
  check(cos.rank() == 2 && cos.dim(0) == x.dim(0) && 2 * cos.dim(1) <= x.dim(2) && sin.shape() == cos.shape() &&
            cos.contiguous() && sin.contiguous() && cos.dtype() == x.dtype() && sin.dtype() == x.dtype(),
        "rope", "angles must be (N, R / 2) in x's dtype with R <= D, cos {}, sin {}, x {}", cos, sin, x);
  Tensor y = like(x);  // (N, H, D)
  rotate(y, x, angles, 1);
  if (Tape::recording(x))
    Tape::record("rope", y, [x = x.without_elements(), angles](const Tensor& dy, Gradients& g) {
      const Tensor dx = like(dy);
      rotate(dx, dy, angles, -1);
      g.add(x, dx);
    });
  return y;
}

}  // namespace lathe
