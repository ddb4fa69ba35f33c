// Cross-entropy over logits that are there as a whole, and what it shares with the head that makes them in chunks.
#include "kernels/cross_entropy.h"

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/running_loss.h"
#include "autograd/tape.h"

namespace lathe {

void check_targets(const char* operation, const Tensor& targets, int64_t rows, int64_t vocabulary) {
  check(targets.rank() == 1 && targets.dim(0) == rows && targets.dtype() == DType::i32 && targets.contiguous(),
        operation, "targets must be ({},) i32, found {}", rows, targets);
  if (targets.device().kind != Device::Kind::cpu) return;
  const int32_t* target = targets.host<int32_t>();
  for (int64_t i = 0; i < rows; ++i)
    check(target[i] == kIgnoredTarget || (target[i] >= 0 && target[i] < vocabulary), operation,
          "target {} at index {} is outside [0, {}) and not {}", target[i], i, vocabulary, kIgnoredTarget);
}

RunningLoss::RunningLoss(const Tensor& targets, DType dtype) : targets_(targets) {
  const auto column = [&](DType t) { return Tensor::empty({targets.dim(0)}, t, targets.device()); };
  maximum = column(dtype);
  sum = column(DType::f64);
  target_logit = column(dtype);
  dispatch("cross_entropy", maximum,
           [&](auto on, auto element) { kernel::logsumexp_start(on, state<decltype(element)>(), targets_.dim(0)); });
}

void RunningLoss::take(const Tensor& logits, int64_t first) {
  dispatch("cross_entropy", logits, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::logsumexp_update(on, state<T>(), tokens_of<T>(logits), targets_.data<int32_t>(), logits.dim(0), first,
                             logits.dim(1));
  });
}

RunningLoss::Result RunningLoss::finish(double total) const {
  const DType dtype = maximum.dtype();
  Result y{Tensor::empty({1}, dtype, maximum.device()), Tensor::empty({1}, DType::f64, maximum.device()),
           like(maximum)};
  dispatch("cross_entropy", maximum, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::cross_entropy(on, y.loss.data<T>(), y.factor.data<double>(), y.logsumexp.data<Sum<T>>(), state<T>(),
                          targets_.data<int32_t>(), targets_.dim(0), total);
  });
  return y;
}

Tensor RunningLoss::log_probabilities() const {
  Tensor y = like(maximum);
  dispatch("log_probabilities", maximum, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::log_probabilities(on, y.data<T>(), state<T>(), targets_.data<int32_t>(), targets_.dim(0));
  });
  return y;
}

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double total) {
  check(logits.rank() == 2, "cross_entropy", "logits must be (N, V), found {}", logits);
  check_targets("cross_entropy", targets, logits.dim(0), logits.dim(1));
  RunningLoss running(targets, logits.dtype());
  running.take(logits, 0);
  RunningLoss::Result y = running.finish(total);
  if (Tape::recording(logits))
    Tape::record("cross_entropy", y.loss,
                 [logits, targets, logsumexp = y.logsumexp, factor = y.factor](const Tensor& dy, Gradients& g) {
                   const Tensor dlogits = like(logits);
                   dispatch("cross_entropy", logits, [&](auto on, auto element) {
                     using T = decltype(element);
                     kernel::cross_entropy_backward(on, dlogits.data<T>(), tokens_of<T>(logits),
                                                    logsumexp.data<Sum<T>>(), targets.data<int32_t>(), logits.dim(0), 0,
                                                    logits.dim(1), dy.data<T>(), factor.data<double>());
                   });
                   g.add(logits, dlogits);
                 });
  return y.loss;
}

RowLogsumexp row_logsumexp(const Tensor& logits, const Tensor& targets) {
  check(logits.rank() == 2, "row_logsumexp", "logits must be (N, V), found {}", logits);
  check_targets("row_logsumexp", targets, logits.dim(0), logits.dim(1));
  RunningLoss running(targets, logits.dtype());
  running.take(logits, 0);
  return {running.maximum, running.sum, running.target_logit};
}

}  // namespace lathe
