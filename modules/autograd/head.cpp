// The output head, whole or a chunk of the vocabulary at a time.
//
// In chunks, the forward keeps only a logsumexp for a token; the backward computes each chunk of logits again, turns it
// into its gradient in place and has done with it, so that (R, V), which can be the largest tensor of a training step
// by far, never exists. Where it is small it is kept. Whole logits and chunks run the same kernels.
#include <algorithm>
#include <optional>

#include "autograd/dispatch.h"
#include "autograd/linear_parts.h"
#include "autograd/low_rank.h"
#include "autograd/ops.h"
#include "autograd/precision.h"
#include "autograd/running_loss.h"
#include "autograd/tape.h"
#include "kernels/activation.h"
#include "kernels/bias.h"
#include "kernels/cross_entropy.h"
#include "kernels/gemm.h"
#include "kernels/projection_steps.h"
#include "kernels/softcap.h"

namespace lathe {
namespace {

void check_head(const char* operation, const Tensor& hidden, const Head& head) {
  check(head.weight != nullptr, operation, "the head has no weight, hidden {}", hidden);
  const Shape& w = head.weight->shape;
  check(hidden.rank() == 2 && w.rank() == 2 && w[1] == hidden.dim(1), operation, "weight {} does not fit hidden {}", w,
        hidden);
  check(!head.bias || head.bias->shape == Shape{w[0]}, operation, "bias {} does not fit weight {}",
        head.bias ? head.bias->shape : Shape{}, w);
}

// Whole logits of up to so many bytes are kept for the backward: computing them again would cost a quarter of the head.
constexpr int64_t kChunk = 8192;  // columns
constexpr int64_t kKeptBytes = int64_t{256} << 20;

bool is_capped(const Head& head) { return head.scale != 1.0 || head.softcap != 0.0; }

// What an adapter adds to the head, where it does.
using Change = std::optional<LowRankProduct>;
Change change_of(const Head& head, const Tensor& hidden) {
  return head.weight->low_rank ? Change(std::in_place, *head.weight->low_rank, hidden) : std::nullopt;
}

// Whether a tape wants a loss over the head recorded; throws Error where a gradient could not be written then.
bool head_records(const char* operation, const Tensor& hidden, const Head& head) {
  const LowRank* change = head.weight->low_rank;
  if (!Tape::recording(hidden, *head.weight) && !(head.bias && Tape::recording(*head.bias)) &&
      !(change && Tape::recording(*change->a, *change->b)))
    return false;
  if (!head.weight->packed) check_gradient_dtype(*head.weight, hidden.dtype(), operation);
  if (head.bias) check_gradient_dtype(*head.bias, hidden.dtype(), operation);
  return true;
}

// The logits of a chunk of the vocabulary, weight (count, C) being its rows: (R, count).
Tensor chunk_logits(const Tensor& hidden, const Head& head, const Change& change, const Tensor& weight, int64_t first) {
  const int64_t rows = hidden.dim(0), columns = hidden.dim(1), count = weight.dim(0);
  Tensor logits = Tensor::empty({rows, count}, hidden.dtype(), hidden.device());
  const Tensor bias = head.bias ? values_of(*head.bias, hidden.dtype(), "linear_cross_entropy") : Tensor{};  // (V)
  dispatch("linear_cross_entropy", hidden, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::gemm<T>(on, tokens_of<T>(logits), tokens_of<T>(hidden), false, tokens_of<T>(weight), true, rows, count,
                    columns, false,
                    {.arithmetic = Precision::products(), .bias = head.bias ? bias.data<T>() + first : nullptr});
  });
  if (change) change->add_to(logits, first);
  if (!is_capped(head)) return logits;
  dispatch("linear_cross_entropy", hidden, [&](auto on, auto element) {
    kernel::scale_softcap(on, logits.data<decltype(element)>(), head.scale, head.softcap, rows * count);
  });
  return logits;
}

// The first pass over the vocabulary. Leaves the last chunk of the logits in `kept`, where there is one.
RunningLoss take_logits(const Tensor& hidden, const Head& head, const Tensor& targets, int64_t chunk,
                        Tensor* kept = nullptr) {
  const int64_t vocabulary = head.weight->shape[0];
  const Change change = change_of(head, hidden);
  RunningLoss running(targets, hidden.dtype());
  for (int64_t first = 0; first < vocabulary; first += chunk) {
    const Tensor weight = weight_rows(*head.weight, first, std::min(chunk, vocabulary - first), hidden.dtype());
    const Tensor logits = chunk_logits(hidden, head, change, weight, first);  // (R, count)
    running.take(logits, head.weight->first_row() + first);
    if (kept) *kept = logits;
  }
  if (const auto& shard = head.weight->shard) running.join(*shard->ranks);
  return running;
}

// The second pass over the vocabulary, from whole logits where they were kept: adds to the gradients of the head and to
// dhidden (R, C), where it is defined. The gradient of each row's loss is dloss (1) times forward.factor, and times
// row_factors (R) where they are defined.
void chunked_backward(const Tensor& dhidden, const Tensor& hidden, const Head& head, const Tensor& targets,
                      const RunningLoss::Result& forward, const Tensor& kept, const Tensor& dloss,
                      const Tensor& row_factors, int64_t chunk) {
  const int64_t rows = hidden.dim(0), columns = hidden.dim(1), vocabulary = head.weight->shape[0];
  Change change = change_of(head, hidden);
  for (int64_t first = 0; first < vocabulary; first += chunk) {
    const int64_t count = std::min(chunk, vocabulary - first);
    const Tensor weight = weight_rows(*head.weight, first, count, hidden.dtype());                    // (count, C)
    const Tensor logits = kept.defined() ? kept : chunk_logits(hidden, head, change, weight, first);  // (R, count)
    const Tensor d = is_capped(head) ? like(logits) : logits;  // the cap's slope needs the logits beside their gradient
    dispatch("linear_cross_entropy", hidden, [&](auto on, auto element) {
      using T = decltype(element);
      kernel::cross_entropy_backward(on, d.data<T>(), tokens_of<T>(logits), forward.logsumexp.data<Sum<T>>(),
                                     targets.data<int32_t>(), rows, head.weight->first_row() + first, count,
                                     dloss.data<T>(), forward.factor.data<double>());
      if (row_factors.defined())
        kernel::scale_rows(on, d.data<T>(), tokens_of<T>(d), row_factors.data<T>(), rows, count);
      if (is_capped(head))
        kernel::scale_softcap_backward(on, d.data<T>(), logits.data<T>(), head.scale, head.softcap, rows * count);
      if (dhidden.defined())
        kernel::gemm<T>(on, tokens_of<T>(dhidden), tokens_of<T>(d), false, tokens_of<T>(weight), false, rows, columns,
                        count, first > 0, {.arithmetic = Precision::products()});
      if (head.weight->trainable && !head.weight->packed)
        kernel::gemm<T>(on, tokens_of<T>(head.weight->gradient().row_range(first, first + count)), tokens_of<T>(d),
                        true, tokens_of<T>(hidden), false, count, columns, rows, true,
                        {.arithmetic = Precision::products()});
      if (head.bias && head.bias->trainable)
        kernel::add_column_sums(on, head.bias->gradient().template data<T>() + first, tokens_of<T>(d), rows, count);
    });
    if (change) change->backward(d, first);
  }
  if (change) change->finish(dhidden);
}

// The logits of the rows that `head` has: (R, V).
Tensor own_logits(const Tensor& hidden, const Head& head) {
  Tensor logits = linear(hidden, LinearWeight{head.weight, head.bias});  // (R, V)
  if (!is_capped(head)) return logits;
  // In place: the product's backward reads its inputs only.
  dispatch("apply_head", logits, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::scale_softcap(on, logits.data<T>(), head.scale, head.softcap, logits.elements());
  });
  if (!Tape::recording(logits)) return logits;
  Tensor y = logits;
  Tape::record("softcap", y, [x = logits.without_elements(), y = logits, head](const Tensor& dy, Gradients& g) {
    const Tensor dx = dy.clone();
    dispatch("apply_head", y, [&](auto on, auto element) {
      using T = decltype(element);
      kernel::scale_softcap_backward(on, dx.data<T>(), y.data<T>(), head.scale, head.softcap, dx.elements());
    });
    g.add(x, dx);
  });
  return y;
}

}  // namespace

Tensor apply_head(const Tensor& hidden, const Head& head) {
  check_head("apply_head", hidden, head);
  const Tensor logits = own_logits(whole_input(hidden, *head.weight), head);
  return head.weight->shard ? join_columns(logits, *head.weight->shard->ranks, head.weight->shard->rows) : logits;
}

Tensor linear_cross_entropy(const Tensor& hidden_, const Head& head, const Tensor& targets, double total,
                            int64_t chunk) {
  check_head("linear_cross_entropy", hidden_, head);
  check(chunk >= 0, "linear_cross_entropy", "chunk must not be negative, found {}", chunk);
  const Tensor hidden = whole_input(hidden_, *head.weight);
  const int64_t vocabulary = head.weight->shape[0];
  check_targets("linear_cross_entropy", targets, hidden.dim(0), head.weight->whole_shape()[0]);
  const bool recording = head_records("linear_cross_entropy", hidden, head);
  const bool keep = recording && chunk == 0 &&
                    hidden.dim(0) * vocabulary * static_cast<int64_t>(bytes_of(hidden.dtype(), 1)) <= kKeptBytes;
  if (chunk == 0) chunk = keep ? vocabulary : kChunk;
  Tensor kept;  // (R, V)
  RunningLoss::Result y = take_logits(hidden, head, targets, chunk, keep ? &kept : nullptr).finish(total);
  if (!recording) return y.loss;
  Tape::record(
      "linear_cross_entropy", y.loss,
      [hidden, head, targets, logsumexp = y.logsumexp, factor = y.factor, kept, chunk](const Tensor& dy, Gradients& g) {
        const Tensor dhidden = Gradients::wanted(hidden) ? like(hidden) : Tensor{};  // (R, C)
        chunked_backward(dhidden, hidden, head, targets, {{}, factor, logsumexp}, kept, dy, {}, chunk);
        if (dhidden.defined()) g.add(hidden, dhidden);
      });
  return y.loss;
}

Tensor linear_log_probabilities(const Tensor& hidden_, const Head& head, const Tensor& targets, int64_t chunk) {
  check_head("linear_log_probabilities", hidden_, head);
  check(chunk > 0, "linear_log_probabilities", "chunk must be positive, found {}", chunk);
  const Tensor hidden = whole_input(hidden_, *head.weight);
  check_targets("linear_log_probabilities", targets, hidden.dim(0), head.weight->whole_shape()[0]);
  const RunningLoss running = take_logits(hidden, head, targets, chunk);
  Tensor y = running.log_probabilities();  // (R)
  if (!head_records("linear_log_probabilities", hidden, head)) return y;
  constexpr double kTotal = 1.0;  // the gradient of the sum of the negative ones, which dy then weighs by row
  Tape::record("linear_log_probabilities", y,
               [hidden, head, targets, forward = running.finish(kTotal), chunk](const Tensor& dy, Gradients& g) {
                 const Tensor dhidden = Gradients::wanted(hidden) ? like(hidden) : Tensor{};  // (R, C)
                 const Tensor minus_one = Tensor::empty({1}, dy.dtype(), dy.device());
                 dispatch("linear_log_probabilities", dy, [&](auto on, auto element) {
                   using T = decltype(element);
                   kernel::fill<T>(on, {minus_one.data<T>(), 1}, -1.0, 1, 1);
                 });
                 chunked_backward(dhidden, hidden, head, targets, forward, {}, minus_one, dy, chunk);
                 if (dhidden.defined()) g.add(hidden, dhidden);
               });
  return y;
}

}  // namespace lathe
