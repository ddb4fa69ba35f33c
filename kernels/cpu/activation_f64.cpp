// Element-wise functions in double.
#include "kernels/cpu/activation_formulas.h"

namespace lathe::cpu {

void activation(double* y, const double* x, int64_t ldx, int64_t rows, int64_t n, Activation f) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < n; ++i) y[row * n + i] = evaluate(f, x[row * ldx + i]).value;
}

void gated_activation(double* y, const double* gate, int64_t ldg, const double* up, int64_t ldu, int64_t rows,
                      int64_t n, Activation f) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < n; ++i) y[row * n + i] = evaluate(f, gate[row * ldg + i]).value * up[row * ldu + i];
}

void add(double* y, const double* a, const double* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}
void multiply(double* y, const double* a, const double* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
}
void scale(double* y, const double* a, double factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] * factor;
}

}  // namespace lathe::cpu
