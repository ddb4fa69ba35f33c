// The norms in double.
#include <cmath>

#include "kernels/norm.h"

namespace lathe::cpu {

void rms_norm(double* y, double* rstd, const double* x, int64_t ldx, const double* w, int64_t rows, int64_t n,
              double eps, double offset) {
  for (int64_t row = 0; row < rows; ++row) {
    const double* in = x + row * ldx;
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += in[i] * in[i];
    const double r = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
    for (int64_t i = 0; i < n; ++i) y[row * n + i] = in[i] * r * (w[i] + offset);
    if (rstd) rstd[row] = r;
  }
}

void layer_norm(double* y, double* mean, double* rstd, const double* x, int64_t ldx, const double* w, const double* b,
                int64_t rows, int64_t n, double eps) {
  for (int64_t row = 0; row < rows; ++row) {
    const double* in = x + row * ldx;
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

}  // namespace lathe::cpu
