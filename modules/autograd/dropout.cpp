// Elements set to zero at random; the mask is made again in the backward, not kept.
#include "kernels/dropout.h"

#include <array>
#include <bit>

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"

namespace lathe {
namespace {

Tensor dropped(const Tensor& x, double rate, const Tensor& seed, uint64_t stream) {
  Tensor y = like(x);
  const auto* word = static_cast<const uint64_t*>(seed.raw());
  dispatch("dropout", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::dropout(on, y.data<T>(), x.data<T>(), x.elements(), rate, word, stream);
  });
  return y;
}

}  // namespace

Tensor dropout_seed(uint64_t seed) {
  return Tensor::of<int32_t>({2}, std::bit_cast<std::array<int32_t, 2>>(seed).data());
}

Tensor dropout(const Tensor& x_, double rate, const Tensor& seed_, uint64_t stream) {
  check(rate >= 0.0 && rate < 1.0, "dropout", "the rate must be in [0, 1), found {}", rate);
  check(seed_.defined() && seed_.shape() == Shape{2} && seed_.dtype() == DType::i32, "dropout",
        "the seed must be (2,) i32, found {}", seed_);
  const Tensor x = as_contiguous(x_), seed = seed_.to(x.device());
  Tensor y = dropped(x, rate, seed, stream);
  if (Tape::recording(x))
    Tape::record("dropout", y, [x = x.without_elements(), rate, seed, stream](const Tensor& dy, Gradients& g) {
      g.add(x, dropped(dy, rate, seed, stream).view(x.shape()));
    });
  return y;
}

}  // namespace lathe
