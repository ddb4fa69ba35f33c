// Cross-entropy, forward and backward. A row belongs to one thread and its columns are taken in order.
#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::cpu {

template <class T>
void logsumexp_update(const RunningLogsumexp<T>& state, const T* logits, int64_t ldl, const int32_t* targets, int64_t n,
                      int64_t first, int64_t width) {
  const ProfileScope profile([&] {
    return ProfiledCall{"logsumexp", static_cast<int64_t>(sizeof(T)) * n * width, 3 * n * width};
  });
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = logits + i * ldl;
      const int64_t target = targets[i] - first;
      if (targets[i] >= 0 && target >= 0 && target < width) state.target_logit[i] = row[target];
      T maximum = state.maximum[i];
      for (int64_t c = 0; c < width; ++c) maximum = std::max(maximum, row[c]);
      // Minus infinity everywhere so far: nothing to add, and the difference below would be NaN.
      if (maximum == -INFINITY) continue;
      double sum = state.sum[i] * std::exp(static_cast<double>(state.maximum[i] - maximum));
      for (int64_t c = 0; c < width; ++c) sum += static_cast<double>(std::exp(row[c] - maximum));
      state.maximum[i] = maximum;
      state.sum[i] = sum;
    }
  });
}
template void logsumexp_update(const RunningLogsumexp<float>&, const float*, int64_t, const int32_t*, int64_t, int64_t,
                               int64_t);
template void logsumexp_update(const RunningLogsumexp<double>&, const double*, int64_t, const int32_t*, int64_t,
                               int64_t, int64_t);

template <class T>
void cross_entropy_backward(T* dlogits, const T* logits, int64_t ldl, const T* logsumexp, const int32_t* targets,
                            int64_t n, int64_t first, int64_t width, T factor) {
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = logits + i * ldl;
      T* out = dlogits + i * width;
      if (targets[i] < 0) {
        std::fill_n(out, width, T(0));
        continue;
      }
      for (int64_t c = 0; c < width; ++c) out[c] = factor * std::exp(row[c] - logsumexp[i]);
      const int64_t target = targets[i] - first;
      if (target >= 0 && target < width) out[target] -= factor;
    }
  });
}
template void cross_entropy_backward(float*, const float*, int64_t, const float*, const int32_t*, int64_t, int64_t,
                                     int64_t, float);
template void cross_entropy_backward(double*, const double*, int64_t, const double*, const int32_t*, int64_t, int64_t,
                                     int64_t, double);

}  // namespace lathe::cpu
