// Root-mean-square and layer normalisation over the last dimension, forward and backward.
// x, y (rows, n) with row strides ldx; y contiguous. The sums run in 16 lanes that are added pairwise in a fixed order.
#pragma once
#include <cstdint>

namespace lathe::cpu {

// y = x / sqrt(mean(x^2) + eps) * (w + offset).  Zhang and Sennrich 2019, eq. 4; Gemma's offset is 1.
// rstd (rows) is written when not null, for the backward.
void rms_norm(float* y, float* rstd, const float* x, int64_t ldx, const float* w, int64_t rows, int64_t n, float eps,
              float offset);
void rms_norm(double* y, double* rstd, const double* x, int64_t ldx, const double* w, int64_t rows, int64_t n,
              double eps, double offset);
// sum = a + b, y = its norm, all (rows, n) contiguous: the bits of the two operations one after the other.
void add_rms_norm(float* sum, float* y, const float* a, const float* b, const float* w, int64_t rows, int64_t n,
                  float eps, float offset);
// dx is overwritten (contiguous); dw (n) is added to; either may be null.
template <class T>
void rms_norm_backward(T* dx, T* dw, const T* dy, const T* x, int64_t ldx, const T* w, const T* rstd, int64_t rows,
                       int64_t n, T offset);

// y = (x - mean) / sqrt(var + eps) * w + b.  Ba et al. 2016, eq. 3. b may be null. mean, rstd (rows) as above.
void layer_norm(float* y, float* mean, float* rstd, const float* x, int64_t ldx, const float* w, const float* b,
                int64_t rows, int64_t n, float eps);
void layer_norm(double* y, double* mean, double* rstd, const double* x, int64_t ldx, const double* w, const double* b,
                int64_t rows, int64_t n, double eps);
void add_layer_norm(float* sum, float* y, const float* a, const float* b, const float* w, const float* bias,
                    int64_t rows, int64_t n, float eps);
// dx is overwritten; dw, db are added to; any of them may be null.
template <class T>
void layer_norm_backward(T* dx, T* dw, T* db, const T* dy, const T* x, int64_t ldx, const T* w, const T* mean,
                         const T* rstd, int64_t rows, int64_t n);

}  // namespace lathe::cpu
