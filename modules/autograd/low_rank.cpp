// See low_rank.h. Where A and B are packed for inference, both products run in the inference kernels, so that a token's
// bits stay the same alone or among others; else in a product that adds to y.
#include "autograd/low_rank.h"

#include "autograd/dispatch.h"
#include "autograd/linear_parts.h"
#include "autograd/ops.h"
#include "autograd/precision.h"
#include "autograd/tape.h"
#include "kernels/activation.h"
#include "kernels/gemm.h"

namespace lathe {

template <>
LowRankDropout*& Active<LowRankDropout>::slot() {
  static thread_local LowRankDropout* dropout = nullptr;
  return dropout;
}

template <>
RowChanges*& Active<RowChanges>::slot() {
  static thread_local RowChanges* changes = nullptr;
  return changes;
}

LowRankProduct::LowRankProduct(const LowRank& low_rank, const Tensor& x) : low_rank_(low_rank), x_(dropped(x)) {
  const Tape::Pause pause;
  inner_ = scale(linear(x_, {low_rank.a, nullptr}), low_rank.scale);  // (N, r)
}

Tensor LowRankProduct::dropped(const Tensor& x) const {
  const LowRankDropout* active = Active<LowRankDropout>::current();
  if (active == nullptr || low_rank_.dropout == 0.0) return x;
  const Tape::Pause pause;
  return dropout(x, low_rank_.dropout, active->seed, low_rank_.stream);
}

void LowRankProduct::add_to(const Tensor& y, int64_t first) const {
  const Parameter& b = *low_rank_.b;
  const int64_t rows = y.dim(0), count = y.dim(1), rank = inner_.dim(1);
  if (b.packed && count == b.shape[0]) {
    const Tape::Pause pause;
    const Tensor change = linear(inner_, {&b, nullptr});  // (N, out)
    dispatch("low_rank", y, [&](auto on, auto element) {
      using T = decltype(element);
      kernel::put_rows<T>(on, tokens_of<T>(y), tokens_of<T>(change), rows, count, true);
    });
    return;
  }
  const Tensor w = weight_rows(b, first, count, y.dtype());  // (count, r)
  dispatch("low_rank", y, [&](auto on, auto element) {
    using T = decltype(element);
    const GemmOptions<T> options{.arithmetic = Precision::products()};
    kernel::gemm<T>(on, tokens_of<T>(y), tokens_of<T>(inner_), false, tokens_of<T>(w), true, rows, count, rank, true,
                    options);
  });
}

void LowRankProduct::backward(const Tensor& dy, int64_t first) {
  const Parameter& b = *low_rank_.b;
  const int64_t rows = dy.dim(0), count = dy.dim(1), rank = inner_.dim(1);
  const bool begun = d_inner_.defined();
  if (!begun) d_inner_ = like(inner_);
  const Tensor w = weight_rows(b, first, count, dy.dtype());  // (count, r)
  dispatch("low_rank", dy, [&](auto on, auto element) {
    using T = decltype(element);
    const GemmOptions<T> options{.arithmetic = Precision::products()};
    kernel::gemm<T>(on, tokens_of<T>(d_inner_), tokens_of<T>(dy), false, tokens_of<T>(w), false, rows, rank, count,
                    begun, options);
    if (b.trainable && !b.packed)
      kernel::gemm<T>(on, tokens_of<T>(b.gradient().row_range(first, first + count)), tokens_of<T>(dy), true,
                      tokens_of<T>(inner_), false, count, rank, rows, true, options);
  });
}

void LowRankProduct::finish(const Tensor& dx) const {
  const Parameter& a = *low_rank_.a;
  const int64_t rows = inner_.dim(0), rank = inner_.dim(1), in = a.shape[1];
  const Tape::Pause pause;
  const Tensor d = scale(d_inner_, low_rank_.scale);    // (N, r): of A x
  const Tensor w = weight_rows(a, 0, rank, d.dtype());  // (r, in)
  Tensor d_x = dx.defined() ? like(dx) : Tensor{};      // (N, in)
  dispatch("low_rank", d, [&](auto on, auto element) {
    using T = decltype(element);
    const GemmOptions<T> options{.arithmetic = Precision::products()};
    if (a.trainable && !a.packed)
      kernel::gemm<T>(on, tokens_of<T>(a.gradient()), tokens_of<T>(d), true, tokens_of<T>(x_), false, rank, in, rows,
                      true, options);
    if (!dx.defined()) return;
    kernel::gemm<T>(on, tokens_of<T>(d_x), tokens_of<T>(d), false, tokens_of<T>(w), false, rows, in, rank, false,
                    options);
    kernel::put_rows<T>(on, tokens_of<T>(dx), tokens_of<T>(dropped(d_x)), rows, in, true);
  });
}

}  // namespace lathe
