// Rotary position embedding. A rotation's transpose is the rotation back, so nothing but the angles is saved.
#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"

namespace lathe {
namespace {

void rotate(const Tensor& y, const Tensor& x, const RopeAngles& angles, int direction) {
  dispatch("rope", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::rope(on, tokens_of<T>(y), tokens_of<T>(x), rotation_of<T>(angles), x.dim(0), x.dim(1), x.dim(2), direction);
  });
}

}  // namespace

void check_angles(const char* operation, const RopeAngles& angles, const Tensor& x) {
  const auto& [cos, sin, rows, style] = angles;
  check(cos.rank() == 2 && 2 * cos.dim(1) <= x.dim(2) && sin.shape() == cos.shape() && cos.contiguous() &&
            sin.contiguous() && cos.dtype() == x.dtype() && sin.dtype() == x.dtype(),
        operation, "angles must be (P, R / 2) in x's dtype with R <= D, cos {}, sin {}, x {}", cos, sin, x);
  check(rows.rank() == 1 && rows.dim(0) == x.dim(0) && rows.dtype() == DType::i32, operation,
        "rows of angles must be (N) i32, found {}, x {}", rows, x);
}

Tensor rope(const Tensor& x, const RopeAngles& angles) {
  check(x.rank() == 3, "rope", "x must be (N, H, D), found {}", x);
  check_angles("rope", angles, x);
  Tensor y = like(x);  // (N, H, D)
  rotate(y, x, angles, 1);
  if (Tape::recording(x))
    Tape::record("rope", y, [x = x.without_elements(), angles](const Tensor& dy, Gradients& g) {
      const Gradients::Place dx = g.place(x, Gradients::Layout::tokens);
      rotate(dx.to, dy, angles, -1);
      g.put(x, dx);
    });
  return y;
}

void fill_rope_rows(const RopeAngles& tables, std::span<const float> inverse, float factor, int64_t first,
                    int64_t end) {
  dispatch("rope", tables.cos, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::rope_rows(on, tables.cos.data<T>(), tables.sin.data<T>(), inverse.data(), factor, first, end,
                      std::ssize(inverse));
  });
}

}  // namespace lathe
