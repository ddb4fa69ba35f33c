// Chunks of logits collected into a loss, for the two operations that end in one. Internal to autograd/.
#pragma once
#include "autograd/ops.h"
#include "kernels/cross_entropy.h"

namespace lathe {

// Throws Error unless targets is (rows) i32 and each that the host can see is in [0, vocabulary) or
// kIgnoredTarget.
void check_targets(const char* operation, const Tensor& targets, int64_t rows, int64_t vocabulary);

class RunningLoss {
 public:
  // targets (R); `dtype` is that of the logits.
  RunningLoss(const Tensor& targets, DType dtype);
  // Columns [first, first + logits.dim(1)) of the vocabulary: logits (R, columns).
  void take(const Tensor& logits, int64_t first);
  // Of ranks that each took columns of their own: what was taken by all of them, the same on all.
  void join(Communicator& ranks);

  // kernel::cross_entropy (kernels/cross_entropy.h) says what they are.
  struct Result {
    Tensor loss;       // (1)
    Tensor factor;     // (1) f64
    Tensor logsumexp;  // (R)
  };
  Result finish(double total) const;
  // (R), 0 where there is no target.
  Tensor log_probabilities() const;

  Tensor maximum, sum, target_logit;  // (R), of what was taken

 private:
  template <class T>
  RunningLogsumexp<T> state() const {
    return {maximum.data<T>(), sum.data<double>(), target_logit.data<T>()};
  }
  Tensor targets_;
};

}  // namespace lathe
