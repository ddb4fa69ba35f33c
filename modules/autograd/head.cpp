// The output head, whole or a chunk of the vocabulary at a time, and the losses at its end.
//
// Cross-entropy of whole logits and of chunks run the same kernels. Chunked, the forward keeps only a logsumexp for a
// token; the backward computes each chunk of logits again, turns it into its gradient in place and has done with it, so
// that (R, V), which is the largest tensor of a training step by far, never exists.
#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/bias.h"
#include "kernels/cross_entropy.h"
#include "kernels/gemm.h"
#include "kernels/logits.h"

namespace lathe {
namespace {

// ---- loss over logits that come in chunks ----

// 1 / what the sum of losses is divided by; 0 when no target counts.
double check_targets(const char* operation, const Tensor& targets, int64_t rows, int64_t vocabulary, double total) {
  check(targets.rank() == 1 && targets.dim(0) == rows && targets.dtype() == DType::i32 && targets.contiguous(),
        operation, "targets must be ({},) i32, found {}", rows, targets);
  const int32_t* target = targets.data<int32_t>();
  int64_t counted = 0;
  for (int64_t i = 0; i < rows; ++i) {
    if (target[i] == kIgnoredTarget) continue;
    check(target[i] >= 0 && target[i] < vocabulary, operation, "target {} at index {} is outside [0, {}) and not {}",
          target[i], i, vocabulary, kIgnoredTarget);
    ++counted;
  }
  if (counted == 0) return 0.0;
  return 1.0 / (total > 0 ? total : static_cast<double>(counted));
}

// Collects chunks of logits into the loss and the logsumexp of each row.
template <class T>
class RunningLoss {
 public:
  explicit RunningLoss(const Tensor& targets)
      : targets_(targets), maximum_(column<T>()), target_logit_(column<T>()), sum_(column<double>()) {
    std::fill_n(maximum_.data<T>(), rows(), -std::numeric_limits<T>::infinity());
    std::fill_n(target_logit_.data<T>(), rows(), T(0));
    std::fill_n(sum_.data<double>(), rows(), 0.0);
  }

  // Columns [first, first + logits.dim(1)) of the vocabulary.
  void take(const Tensor& logits, int64_t first) {
    cpu::logsumexp_update(cpu::RunningLogsumexp<T>{maximum_.data<T>(), sum_.data<double>(), target_logit_.data<T>()},
                          logits.data<T>(), logits.stride(), targets_.data<int32_t>(), rows(), first, logits.dim(1));
  }

  // logsumexp (R) is written; returns factor * the sum of losses, as a tensor of one element.
  Tensor finish(const Tensor& logsumexp, double factor) const {
    double loss = 0;
    for (int64_t i = 0; i < rows(); ++i) {
      const double value = static_cast<double>(maximum_.data<T>()[i]) + std::log(sum_.data<double>()[i]);
      logsumexp.data<T>()[i] = static_cast<T>(value);
      if (targets_.data<int32_t>()[i] >= 0) loss += value - static_cast<double>(target_logit_.data<T>()[i]);
    }
    const T result = static_cast<T>(factor == 0 ? 0 : loss * factor);
    return Tensor::of<T>({1}, &result);
  }

 private:
  int64_t rows() const { return targets_.dim(0); }
  template <class U>
  Tensor column() const {
    return Tensor::empty({rows()}, DTypeOf<U>::value);
  }

  Tensor targets_, maximum_, target_logit_, sum_;
};

template <class T>
double value_of(const Tensor& one) {
  return static_cast<double>(*one.data<T>());
}

// ---- the head ----

void check_head(const char* operation, const Tensor& hidden, const Head& head) {
  check(head.weight != nullptr, operation, "the head has no weight, hidden {}", hidden);
  const Shape& w = head.weight->shape;
  check(hidden.rank() == 2 && w.rank() == 2 && w[1] == hidden.dim(1), operation, "weight {} does not fit hidden {}", w,
        hidden);
  check(!head.bias || head.bias->shape == Shape{w[0]}, operation, "bias {} does not fit weight {}",
        head.bias ? head.bias->shape : Shape{}, w);
}

// Rows [first, first + count) of the head's weight in the dtype of the activations.
Tensor weight_rows(const Parameter& weight, int64_t first, int64_t count, DType dtype) {
  if (!weight.packed) {
    check(weight.value.defined(), "linear_cross_entropy", "the head's weight {} has no value", weight.shape);
    return convert(weight.value.row_range(first, first + count), dtype);
  }
  const Tensor rows = Tensor::empty({count, weight.shape[1]}, DType::f32);
  for (int64_t i = 0; i < count; ++i)
    cpu::unpack_row(rows.data<float>() + i * weight.shape[1], weight.packed->matrix, first + i);
  return convert(rows, dtype);
}

// The logits of a chunk of the vocabulary, weight (count, C) being its rows: (R, count).
template <class T>
Tensor chunk_logits(const Tensor& hidden, const Head& head, const Tensor& weight, int64_t first) {
  const int64_t rows = hidden.dim(0), columns = hidden.dim(1), count = weight.dim(0);
  Tensor logits = Tensor::empty({rows, count}, hidden.dtype());
  if (head.bias) {
    const Tensor bias = values_of(*head.bias, hidden.dtype(), "linear_cross_entropy");
    cpu::broadcast_rows(logits.data<T>(), count, bias.data<T>() + first, rows, count);
  }
  cpu::gemm(logits.data<T>(), count, hidden.data<T>(), hidden.stride(), false, weight.data<T>(), columns, true, rows,
            count, columns, head.bias != nullptr);
  if (head.scale != 1.0 || head.softcap != 0.0)
    cpu::scale_softcap(logits.data<T>(), static_cast<T>(head.scale), static_cast<T>(head.softcap), rows * count);
  return logits;
}

// The second pass over the vocabulary: adds to the gradients of the head and to dhidden (R, C), where it is defined.
template <class T>
void chunked_backward(const Tensor& dhidden, const Tensor& hidden, const Head& head, const Tensor& targets,
                      const Tensor& logsumexp, T factor, int64_t chunk) {
  const int64_t rows = hidden.dim(0), columns = hidden.dim(1), vocabulary = head.weight->shape[0];
  const bool weight_trains = head.weight->trainable && !head.weight->packed;
  for (int64_t first = 0; first < vocabulary; first += chunk) {
    const int64_t count = std::min(chunk, vocabulary - first);
    const Tensor weight = weight_rows(*head.weight, first, count, hidden.dtype());
    const Tensor logits = chunk_logits<T>(hidden, head, weight, first);
    const bool capped = head.scale != 1.0 || head.softcap != 0.0;
    const Tensor d = capped ? like(logits) : logits;  // the cap's slope needs the logits beside their gradient
    cpu::cross_entropy_backward(d.data<T>(), logits.data<T>(), count, logsumexp.data<T>(), targets.data<int32_t>(),
                                rows, first, count, factor);
    if (capped)
      cpu::scale_softcap_backward(d.data<T>(), logits.data<T>(), static_cast<T>(head.scale),
                                  static_cast<T>(head.softcap), rows * count);
    if (dhidden.defined())
      cpu::gemm(dhidden.data<T>(), columns, d.data<T>(), count, false, weight.data<T>(), columns, false, rows, columns,
                count, first > 0);
    if (weight_trains)
      cpu::gemm(head.weight->gradient().template data<T>() + first * columns, columns, d.data<T>(), count, true,
                hidden.data<T>(), hidden.stride(), false, count, columns, rows, true);
    if (head.bias && head.bias->trainable)
      cpu::add_column_sums(head.bias->gradient().template data<T>() + first, d.data<T>(), count, rows, count);
  }
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double total) {
  check(logits.rank() == 2, "cross_entropy", "logits must be (N, V), found {}", logits);
  const double factor = check_targets("cross_entropy", targets, logits.dim(0), logits.dim(1), total);
  const Tensor logsumexp = Tensor::empty({logits.dim(0)}, logits.dtype());  // (N)
  Tensor loss;                                                              // (1)
  dispatch("cross_entropy", logits, [&](auto element) {
    RunningLoss<decltype(element)> running(targets);
    running.take(logits, 0);
    loss = running.finish(logsumexp, factor);
  });
  if (Tape::recording(logits))
    Tape::record("cross_entropy", loss, [logits, targets, logsumexp, factor](const Tensor& dy, Gradients& g) {
      const Tensor dlogits = like(logits);
      dispatch("cross_entropy", logits, [&](auto element) {
        using T = decltype(element);
        cpu::cross_entropy_backward(dlogits.data<T>(), logits.data<T>(), logits.stride(), logsumexp.data<T>(),
                                    targets.data<int32_t>(), logits.dim(0), 0, logits.dim(1),
                                    static_cast<T>(factor * value_of<T>(dy)));
      });
      g.add(logits, dlogits);
    });
  return loss;
}

Tensor apply_head(const Tensor& hidden, const Head& head) {
  check_head("apply_head", hidden, head);
  Tensor logits = linear(hidden, LinearWeight{head.weight, head.bias});  // (R, V)
  if (head.scale == 1.0 && head.softcap == 0.0) return logits;
  // In place: the product's backward reads its inputs only.
  dispatch("apply_head", logits, [&](auto element) {
    using T = decltype(element);
    cpu::scale_softcap(logits.data<T>(), static_cast<T>(head.scale), static_cast<T>(head.softcap), logits.elements());
  });
  if (!Tape::recording(logits)) return logits;
  Tensor y = logits;
  Tape::record("softcap", y, [x = logits.without_elements(), y = logits, head](const Tensor& dy, Gradients& g) {
    const Tensor dx = dy.clone();
    dispatch("apply_head", y, [&](auto element) {
      using T = decltype(element);
      cpu::scale_softcap_backward(dx.data<T>(), y.data<T>(), static_cast<T>(head.scale), static_cast<T>(head.softcap),
                                  dx.elements());
    });
    g.add(x, dx);
  });
  return y;
}

Tensor linear_cross_entropy(const Tensor& hidden, const Head& head, const Tensor& targets, double total,
                            int64_t chunk) {
  check_head("linear_cross_entropy", hidden, head);
  check(chunk > 0, "linear_cross_entropy", "chunk must be positive, found {}", chunk);
  const int64_t vocabulary = head.weight->shape[0];
  const double factor = check_targets("linear_cross_entropy", targets, hidden.dim(0), vocabulary, total);
  const Tensor logsumexp = Tensor::empty({hidden.dim(0)}, hidden.dtype());  // (R)
  Tensor loss;                                                              // (1)
  dispatch("linear_cross_entropy", hidden, [&](auto element) {
    using T = decltype(element);
    RunningLoss<T> running(targets);
    for (int64_t first = 0; first < vocabulary; first += chunk) {
      const int64_t count = std::min(chunk, vocabulary - first);
      running.take(chunk_logits<T>(hidden, head, weight_rows(*head.weight, first, count, hidden.dtype()), first),
                   first);
    }
    loss = running.finish(logsumexp, factor);
  });
  if (!Tape::recording(hidden, *head.weight) && !(head.bias && Tape::recording(*head.bias))) return loss;
  if (!head.weight->packed) check_gradient_dtype(*head.weight, hidden.dtype(), "linear_cross_entropy");
  if (head.bias) check_gradient_dtype(*head.bias, hidden.dtype(), "linear_cross_entropy");
  Tape::record(
      "linear_cross_entropy", loss, [hidden, head, targets, logsumexp, factor, chunk](const Tensor& dy, Gradients& g) {
        const Tensor dhidden = Gradients::wanted(hidden) ? like(hidden) : Tensor{};
        dispatch("linear_cross_entropy", hidden, [&](auto element) {
          using T = decltype(element);
          chunked_backward(dhidden, hidden, head, targets, logsumexp, static_cast<T>(factor * value_of<T>(dy)), chunk);
        });
        if (dhidden.defined()) g.add(hidden, dhidden);
      });
  return loss;
}

}  // namespace lathe
