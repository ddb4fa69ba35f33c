// Element-wise functions of feed-forward nets, plain and gated, and the few that residual streams need.
#pragma once
#include <cstdint>

namespace lathe {

// silu: x sigmoid(x).  gelu_exact: x Phi(x) with erf.  gelu_tanh: its tanh form (Hendrycks and Gimpel 2016, section 2).
enum class Activation : uint8_t { silu, gelu_exact, gelu_tanh };

namespace cpu {

// y (rows, n) contiguous = f(x); x with row stride ldx.
void activation(float* y, const float* x, int64_t ldx, int64_t rows, int64_t n, Activation f);
void activation(double* y, const double* x, int64_t ldx, int64_t rows, int64_t n, Activation f);
template <class T>
void activation_backward(T* dx, const T* dy, const T* x, int64_t ldx, int64_t rows, int64_t n, Activation f);

// y (rows, n) contiguous = f(gate) * up (Shazeer 2020, eq. 6).
void gated_activation(float* y, const float* gate, int64_t ldg, const float* up, int64_t ldu, int64_t rows, int64_t n,
                      Activation f);
void gated_activation(double* y, const double* gate, int64_t ldg, const double* up, int64_t ldu, int64_t rows,
                      int64_t n, Activation f);
template <class T>
void gated_activation_backward(T* dgate, T* dup, const T* dy, const T* gate, int64_t ldg, const T* up, int64_t ldu,
                               int64_t rows, int64_t n, Activation f);

// y = a + b, y = a * b, y = factor * a; n contiguous elements; y may be a or b.
void add(float* y, const float* a, const float* b, int64_t n);
void add(double* y, const double* a, const double* b, int64_t n);
void multiply(float* y, const float* a, const float* b, int64_t n);
void multiply(double* y, const double* a, const double* b, int64_t n);
void scale(float* y, const float* a, float factor, int64_t n);
void scale(double* y, const double* a, double factor, int64_t n);

}  // namespace cpu
}  // namespace lathe
