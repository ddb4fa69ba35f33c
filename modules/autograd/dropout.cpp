// Elements set to zero at random; the mask is made again in the backward, not kept.
#include "kernels/dropout.h"

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"

namespace lathe {
namespace {

Tensor dropped(const Tensor& x, double rate, uint64_t seed, uint64_t stream) {
  Tensor y = like(x);
  dispatch("dropout", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::dropout(on, y.data<T>(), x.data<T>(), x.elements(), rate, seed, stream);
  });
  return y;
}

}  // namespace

Tensor dropout(const Tensor& x_, double rate, uint64_t seed, uint64_t stream) {
  check(rate >= 0.0 && rate < 1.0, "dropout", "the rate must be in [0, 1), found {}", rate);
  const Tensor x = as_contiguous(x_);
  Tensor y = dropped(x, rate, seed, stream);
  if (Tape::recording(x))
    Tape::record("dropout", y, [x = x.without_elements(), rate, seed, stream](const Tensor& dy, Gradients& g) {
      g.add(x, dropped(dy, rate, seed, stream).view(x.shape()));
    });
  return y;
}

}  // namespace lathe
