// Norms on the thread team: in f32 the rows are those of row_kernels.h; in double, the oracle, they are plain loops.
//
// Gradients, with z the normalised x and g = dy * weight:
//   rms_norm:    dx = rstd (g - z mean(g z))
//   layer_norm:  dx = rstd (g - mean(g) - z mean(g z))
// dx is cut by rows and dw by columns, each with its rows in order: no sum is shared by two threads.
#include "kernels/norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/dispatch.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

constexpr int64_t kColumnGrain = 64;
int64_t norm_grain(int64_t n) { return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, n)); }

}  // namespace

// ---- forward ----

template <>
void rms_norm(Cpu, float* y, float* rstd, ConstRows<float> x, const float* w, int64_t rows, int64_t n, double eps,
              double offset) {
  const ProfileScope profile([&] { return ProfiledCall{"rms_norm", 8 * rows * n, 4 * rows * n}; });
  const auto kernel = cpu::kernels().rows.rms_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, rstd != nullptr ? rstd + begin : nullptr, x[begin], x.stride, w, end - begin, n,
           static_cast<float>(eps), static_cast<float>(offset));
  });
}

template <>
void layer_norm(Cpu, float* y, float* mean, float* rstd, ConstRows<float> x, const float* w, const float* b,
                int64_t rows, int64_t n, double eps) {
  const ProfileScope profile([&] { return ProfiledCall{"layer_norm", 8 * rows * n, 7 * rows * n}; });
  const auto kernel = cpu::kernels().rows.layer_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, mean != nullptr ? mean + begin : nullptr, rstd != nullptr ? rstd + begin : nullptr, x[begin],
           x.stride, w, b, end - begin, n, static_cast<float>(eps));
  });
}

void add_rms_norm(Cpu, float* sum, float* y, const float* a, const float* b, const float* w, int64_t rows, int64_t n,
                  double eps, double offset) {
  const ProfileScope profile([&] { return ProfiledCall{"add_rms_norm", 16 * rows * n, 5 * rows * n}; });
  const auto kernel = cpu::kernels().rows.add_rms_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * n;
    kernel(sum + at, y + at, a + at, b + at, w, end - begin, n, static_cast<float>(eps), static_cast<float>(offset));
  });
}

void add_layer_norm(Cpu, float* sum, float* y, const float* a, const float* b, const float* w, const float* bias,
                    int64_t rows, int64_t n, double eps) {
  const ProfileScope profile([&] { return ProfiledCall{"add_layer_norm", 16 * rows * n, 8 * rows * n}; });
  const auto kernel = cpu::kernels().rows.add_layer_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * n;
    kernel(sum + at, y + at, a + at, b + at, w, bias, end - begin, n, static_cast<float>(eps));
  });
}

// ---- in double ----

template <>
void rms_norm(Cpu, double* y, double* rstd, ConstRows<double> x, const double* w, int64_t rows, int64_t n, double eps,
              double offset) {
  for (int64_t row = 0; row < rows; ++row) {
    const double* in = x[row];
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += in[i] * in[i];
    const double r = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
    for (int64_t i = 0; i < n; ++i) y[row * n + i] = in[i] * r * (w[i] + offset);
    if (rstd) rstd[row] = r;
  }
}

template <>
void layer_norm(Cpu, double* y, double* mean, double* rstd, ConstRows<double> x, const double* w, const double* b,
                int64_t rows, int64_t n, double eps) {
  for (int64_t row = 0; row < rows; ++row) {
    const double* in = x[row];
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) sum += in[i];
    const double m = sum / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) squares += (in[i] - m) * (in[i] - m);
    const double r = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
    for (int64_t i = 0; i < n; ++i) y[row * n + i] = (in[i] - m) * r * w[i] + (b ? b[i] : 0);
    if (mean) mean[row] = m;
    if (rstd) rstd[row] = r;
  }
}

// ---- backward ----

template <class T>
void rms_norm_backward(Cpu, T* dx, Sum<T>* dw, const T* dy, ConstRows<T> x, const Sum<T>* w, const Sum<T>* rstd,
                       int64_t rows, int64_t n, double offset_) {
  const ProfileScope profile([&] {
    return ProfiledCall{"rms_norm_backward", int64_t{sizeof(T)} * ((dx ? 3 : 0) + (dw ? 2 : 0)) * rows * n,
                        ((dx ? 9 : 0) + (dw ? 3 : 0)) * rows * n};
  });
  const T offset = static_cast<T>(offset_);
  if (dx)
    parallel_for(rows, norm_grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T *in = x[row], *d = dy + row * n;
        const T r = rstd[row];
        T dot = 0;
        for (int64_t i = 0; i < n; ++i) dot += d[i] * (w[i] + offset) * in[i];
        const T mean = dot * r / static_cast<T>(n);
        for (int64_t i = 0; i < n; ++i) dx[row * n + i] = r * (d[i] * (w[i] + offset) - in[i] * r * mean);
      }
    });
  if (dw)
    parallel_for(n, kColumnGrain, [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = begin; i < end; ++i) dw[i] += dy[row * n + i] * x[row][i] * rstd[row];
    });
}

template <class T>
void layer_norm_backward(Cpu, T* dx, Sum<T>* dw, Sum<T>* db, const T* dy, ConstRows<T> x, const Sum<T>* w,
                         const Sum<T>* mean, const Sum<T>* rstd, int64_t rows, int64_t n) {
  const ProfileScope profile([&] {
    return ProfiledCall{"layer_norm_backward", int64_t{sizeof(T)} * ((dx ? 3 : 0) + (dw || db ? 2 : 0)) * rows * n,
                        ((dx ? 12 : 0) + (dw ? 4 : 0) + (db ? 1 : 0)) * rows * n};
  });
  if (dx)
    parallel_for(rows, norm_grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T *in = x[row], *d = dy + row * n;
        const T r = rstd[row], m = mean[row];
        T sum = 0, dot = 0;
        for (int64_t i = 0; i < n; ++i) {
          sum += d[i] * w[i];
          dot += d[i] * w[i] * (in[i] - m);
        }
        const T mean_g = sum / static_cast<T>(n), mean_gz = dot * r / static_cast<T>(n);
        for (int64_t i = 0; i < n; ++i) dx[row * n + i] = r * (d[i] * w[i] - mean_g - (in[i] - m) * r * mean_gz);
      }
    });
  if (dw || db)
    parallel_for(n, kColumnGrain, [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = begin; i < end; ++i) {
          if (dw) dw[i] += dy[row * n + i] * (x[row][i] - mean[row]) * rstd[row];
          if (db) db[i] += dy[row * n + i];
        }
    });
}

#define LATHE_INSTANTIATE(T)                                                                                         \
  template void rms_norm_backward(Cpu, T*, Sum<T>*, const T*, ConstRows<T>, const Sum<T>*, const Sum<T>*, int64_t,   \
                                  int64_t, double);                                                                  \
  template void layer_norm_backward(Cpu, T*, Sum<T>*, Sum<T>*, const T*, ConstRows<T>, const Sum<T>*, const Sum<T>*, \
                                    const Sum<T>*, int64_t, int64_t);
LATHE_INSTANTIATE(float)
LATHE_INSTANTIATE(double)
#undef LATHE_INSTANTIATE

}  // namespace lathe::kernel
