// Cross-entropy, forward and backward. A row belongs to one thread and its columns are taken in order: in f32 by the
// vectors of row_gradients.h, whose sums over some hundred columns are f32 and their total double.
#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/training.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

float largest(const float* x, int64_t n) { return cpu::training_kernels().rows.largest(x, n); }
double sum_of_exponentials(const float* x, float maximum, int64_t n) {
  return cpu::training_kernels().rows.sum_of_exponentials(x, maximum, n);
}
void scaled_exponentials(float* y, const float* x, float logsumexp, float factor, int64_t n) {
  cpu::training_kernels().rows.scaled_exponentials(y, x, logsumexp, factor, n);
}

double largest(const double* x, int64_t n) { return n > 0 ? *std::max_element(x, x + n) : -INFINITY; }
double sum_of_exponentials(const double* x, double maximum, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - maximum);
  return sum;
}
void scaled_exponentials(double* y, const double* x, double logsumexp, double factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = factor * std::exp(x[i] - logsumexp);
}

}  // namespace

template <class T>
void logsumexp_start(Cpu, const RunningLogsumexp<T>& state, int64_t n) {
  std::fill_n(state.maximum, n, -std::numeric_limits<T>::infinity());
  std::fill_n(state.sum, n, 0.0);
  std::fill_n(state.target_logit, n, T(0));
}

template <class T>
void logsumexp_update(Cpu, const RunningLogsumexp<T>& state, ConstRows<T> logits, const int32_t* targets, int64_t n,
                      int64_t first, int64_t width) {
  const ProfileScope profile([&] {
    return ProfiledCall{"logsumexp", static_cast<int64_t>(sizeof(T)) * n * width, 3 * n * width};
  });
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = logits[i];
      const int64_t target = targets[i] - first;
      if (targets[i] >= 0 && target >= 0 && target < width) state.target_logit[i] = row[target];
      const T maximum = std::max(state.maximum[i], largest(row, width));
      // Minus infinity everywhere so far: nothing to add, and the difference below would be NaN.
      if (maximum == -INFINITY) continue;
      const double before = state.sum[i] * std::exp(static_cast<double>(state.maximum[i] - maximum));
      state.maximum[i] = maximum;
      state.sum[i] = before + sum_of_exponentials(row, maximum, width);
    }
  });
}

template <class T>
void cross_entropy(Cpu, T* loss, double* factor, Sum<T>* logsumexp, const RunningLogsumexp<T>& state,
                   const int32_t* targets, int64_t n, double total) {
  double sum = 0;
  int64_t counted = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double value = static_cast<double>(state.maximum[i]) + std::log(state.sum[i]);
    logsumexp[i] = static_cast<Sum<T>>(value);
    if (targets[i] < 0) continue;
    sum += value - static_cast<double>(state.target_logit[i]);
    ++counted;
  }
  *factor = counted == 0 ? 0.0 : 1.0 / (total > 0 ? total : static_cast<double>(counted));
  *loss = static_cast<T>(counted == 0 ? 0.0 : sum * *factor);
}

template <class T>
void log_probabilities(Cpu, T* y, const RunningLogsumexp<T>& state, const int32_t* targets, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const double logsumexp = static_cast<double>(state.maximum[i]) + std::log(state.sum[i]);
    y[i] = targets[i] < 0 ? T(0) : static_cast<T>(static_cast<double>(state.target_logit[i]) - logsumexp);
  }
}

template <class T>
void cross_entropy_backward(Cpu, T* dlogits, ConstRows<T> logits, const Sum<T>* logsumexp, const int32_t* targets,
                            int64_t n, int64_t first, int64_t width, const T* dloss, const double* factor_) {
  const ProfileScope profile([&] {
    return ProfiledCall{"cross_entropy_backward", 2 * int64_t{sizeof(T)} * n * width, 3 * n * width};
  });
  const T factor = static_cast<T>(*factor_ * static_cast<double>(*dloss));
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = logits[i];
      T* out = dlogits + i * width;
      if (targets[i] < 0) {
        std::fill_n(out, width, T(0));
        continue;
      }
      scaled_exponentials(out, row, logsumexp[i], factor, width);
      const int64_t target = targets[i] - first;
      if (target >= 0 && target < width) out[target] -= factor;
    }
  });
}

#define LATHE_INSTANTIATE(T)                                                                                           \
  template void logsumexp_start(Cpu, const RunningLogsumexp<T>&, int64_t);                                             \
  template void logsumexp_update(Cpu, const RunningLogsumexp<T>&, ConstRows<T>, const int32_t*, int64_t, int64_t,      \
                                 int64_t);                                                                             \
  template void cross_entropy(Cpu, T*, double*, Sum<T>*, const RunningLogsumexp<T>&, const int32_t*, int64_t, double); \
  template void log_probabilities(Cpu, T*, const RunningLogsumexp<T>&, const int32_t*, int64_t);                       \
  template void cross_entropy_backward(Cpu, T*, ConstRows<T>, const Sum<T>*, const int32_t*, int64_t, int64_t,         \
                                       int64_t, const T*, const double*);
LATHE_INSTANTIATE(float)
LATHE_INSTANTIATE(double)
#undef LATHE_INSTANTIATE

}  // namespace lathe::kernel
