// Cross-entropy over logits that may come in chunks of the vocabulary, and its gradient.
#pragma once
#include "kernels/device.h"

namespace lathe {

// State of a running logsumexp of N rows, all arrays (N). The sums are kept in double: a vocabulary has 10^5 terms.
template <class T>
struct RunningLogsumexp {
  T* maximum;
  double* sum;
  T* target_logit;
};

namespace kernel {

// The state before any column: -infinity, 0 and 0.
template <class T>
void logsumexp_start(Cpu, const RunningLogsumexp<T>& state, int64_t n);
template <class T>
void logsumexp_start(Cuda, const RunningLogsumexp<T>& state, int64_t n);
// Takes in columns [first, first + width) of the vocabulary: logits (N, width); targets (N), a negative one has no
// logit.
template <class T>
void logsumexp_update(Cpu, const RunningLogsumexp<T>& state, ConstRows<T> logits, const int32_t* targets, int64_t n,
                      int64_t first, int64_t width);
template <class T>
void logsumexp_update(Cuda, const RunningLogsumexp<T>& state, ConstRows<T> logits, const int32_t* targets, int64_t n,
                      int64_t first, int64_t width);

// The mean over the targets that are not negative: loss (1) = factor * sum of logsumexp - logit[target], factor (1)
// being 1 / total, or where total is 0 one by the number of such targets; 0 where there are none. logsumexp (N) is
// written.
template <class T>
void cross_entropy(Cpu, T* loss, double* factor, Sum<T>* logsumexp, const RunningLogsumexp<T>& state,
                   const int32_t* targets, int64_t n, double total);
template <class T>
void cross_entropy(Cuda, T* loss, double* factor, Sum<T>* logsumexp, const RunningLogsumexp<T>& state,
                   const int32_t* targets, int64_t n, double total);
// y (N) = logit[target] - logsumexp; 0 where the target is negative.
template <class T>
void log_probabilities(Cpu, T* y, const RunningLogsumexp<T>& state, const int32_t* targets, int64_t n);
template <class T>
void log_probabilities(Cuda, T* y, const RunningLogsumexp<T>& state, const int32_t* targets, int64_t n);
// dlogits (N, width, contiguous) = dloss factor (exp(logit - logsumexp[n]) - [column is the target]); rows with a
// negative target are zero. dlogits may be logits where their rows are contiguous. dloss and factor (1).
template <class T>
void cross_entropy_backward(Cpu, T* dlogits, ConstRows<T> logits, const Sum<T>* logsumexp, const int32_t* targets,
                            int64_t n, int64_t first, int64_t width, const T* dloss, const double* factor);
template <class T>
void cross_entropy_backward(Cuda, T* dlogits, ConstRows<T> logits, const Sum<T>* logsumexp, const int32_t* targets,
                            int64_t n, int64_t first, int64_t width, const T* dloss, const double* factor);

}  // namespace kernel
}  // namespace lathe
