// Gradients of the norms. With z the normalised x and g = dy * weight:
//   rms_norm:    dx = rstd (g - z mean(g z))
//   layer_norm:  dx = rstd (g - mean(g) - z mean(g z))
// dx is cut by rows and dw by columns, each with its rows in order: no sum is shared by two threads.
#include <algorithm>

#include "kernels/norm.h"
#include "tensor/threads.h"

namespace lathe::cpu {
namespace {

constexpr int64_t kColumnGrain = 64;
int64_t norm_grain(int64_t n) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, n)); }

}  // namespace

template <class T>
void rms_norm_backward(T* dx, T* dw, const T* dy, const T* x, int64_t ldx, const T* w, const T* rstd, int64_t rows,
                       int64_t n, T offset) {
  if (dx)
    parallel_for(rows, norm_grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T *in = x + row * ldx, *d = dy + row * n;
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
        for (int64_t i = begin; i < end; ++i) dw[i] += dy[row * n + i] * x[row * ldx + i] * rstd[row];
    });
}
template void rms_norm_backward(float*, float*, const float*, const float*, int64_t, const float*, const float*,
                                int64_t, int64_t, float);
template void rms_norm_backward(double*, double*, const double*, const double*, int64_t, const double*, const double*,
                                int64_t, int64_t, double);

template <class T>
void layer_norm_backward(T* dx, T* dw, T* db, const T* dy, const T* x, int64_t ldx, const T* w, const T* mean,
                         const T* rstd, int64_t rows, int64_t n) {
  if (dx)
    parallel_for(rows, norm_grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T *in = x + row * ldx, *d = dy + row * n;
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
          if (dw) dw[i] += dy[row * n + i] * (x[row * ldx + i] - mean[row]) * rstd[row];
          if (db) db[i] += dy[row * n + i];
        }
    });
}
template void layer_norm_backward(float*, float*, float*, const float*, const float*, int64_t, const float*,
                                  const float*, const float*, int64_t, int64_t);
template void layer_norm_backward(double*, double*, double*, const double*, const double*, int64_t, const double*,
                                  const double*, const double*, int64_t, int64_t);

}  // namespace lathe::cpu
