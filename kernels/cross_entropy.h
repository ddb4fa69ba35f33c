// Cross-entropy over logits that may come in chunks of the vocabulary, and its gradient.
#pragma once
#include <cstdint>

namespace lathe::cpu {

// State of a running logsumexp of N rows, all arrays (N): maximum starts at -infinity, sum and target_logit at 0.
// The sums are kept in double: a vocabulary has 10^5 terms.
template <class T>
struct RunningLogsumexp {
  T* maximum;
  double* sum;
  T* target_logit;
};

// Takes in columns [first, first + width) of the vocabulary: logits (N, width; row stride ldl); targets (N), a negative
// one has no logit.
template <class T>
void logsumexp_update(const RunningLogsumexp<T>& state, const T* logits, int64_t ldl, const int32_t* targets, int64_t n,
                      int64_t first, int64_t width);

// dlogits (N, width, contiguous) = factor (exp(logit - logsumexp[n]) - [column is the target]); rows with a negative
// target are zero. dlogits may be logits when ldl == width.
template <class T>
void cross_entropy_backward(T* dlogits, const T* logits, int64_t ldl, const T* logsumexp, const int32_t* targets,
                            int64_t n, int64_t first, int64_t width, T factor);

}  // namespace lathe::cpu
