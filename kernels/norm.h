// Root-mean-square and layer normalisation over the last dimension, forward and backward. T: float, double.
// x and y (rows, n), y contiguous. The sums run in 16 lanes that are added pairwise in a fixed order; sums over rows in
// pieces that the number of rows alone decides.
#pragma once
#include "kernels/device.h"

namespace lathe::kernel {

// y = x / sqrt(mean(x^2) + eps) * (w + offset).  Zhang and Sennrich 2019, eq. 4; Gemma's offset is 1.
// rstd (rows) is written when not null, for the backward.
template <class T>
void rms_norm(Cpu, T* y, Sum<T>* rstd, ConstRows<T> x, const Sum<T>* w, int64_t rows, int64_t n, double eps,
              double offset);
template <class T>
void rms_norm(Cuda, T* y, Sum<T>* rstd, ConstRows<T> x, const Sum<T>* w, int64_t rows, int64_t n, double eps,
              double offset);
// sum = a + b, y = its norm, all (rows, n) contiguous: the bits of the two operations one after the other. rstd (rows),
// and mean, may be null.
void add_rms_norm(Cpu, float* sum, float* y, float* rstd, const float* a, const float* b, const float* w, int64_t rows,
                  int64_t n, double eps, double offset);
void add_rms_norm(Cuda, float* sum, float* y, float* rstd, const float* a, const float* b, const float* w, int64_t rows,
                  int64_t n, double eps, double offset);
// Elements of scratch for the backwards below. They do without where it is null; on Cuda dw and db then take a pass of
// their own.
inline int64_t norm_backward_scratch(Cpu, int64_t, int64_t) { return 0; }
int64_t norm_backward_scratch(Cuda, int64_t rows, int64_t n);
// dx (contiguous) is set, or added to where `accumulate`; dw (n) is added to; either may be null.
template <class T>
void rms_norm_backward(Cpu, T* dx, bool accumulate, Sum<T>* dw, const T* dy, ConstRows<T> x, const Sum<T>* w,
                       const Sum<T>* rstd, int64_t rows, int64_t n, double offset, Sum<T>* scratch = nullptr);
template <class T>
void rms_norm_backward(Cuda, T* dx, bool accumulate, Sum<T>* dw, const T* dy, ConstRows<T> x, const Sum<T>* w,
                       const Sum<T>* rstd, int64_t rows, int64_t n, double offset, Sum<T>* scratch = nullptr);

// y = (x - mean) / sqrt(var + eps) * w + b.  Ba et al. 2016, eq. 3. b may be null. mean, rstd (rows) as above.
template <class T>
void layer_norm(Cpu, T* y, Sum<T>* mean, Sum<T>* rstd, ConstRows<T> x, const Sum<T>* w, const Sum<T>* b, int64_t rows,
                int64_t n, double eps);
template <class T>
void layer_norm(Cuda, T* y, Sum<T>* mean, Sum<T>* rstd, ConstRows<T> x, const Sum<T>* w, const Sum<T>* b, int64_t rows,
                int64_t n, double eps);
void add_layer_norm(Cpu, float* sum, float* y, float* mean, float* rstd, const float* a, const float* b, const float* w,
                    const float* bias, int64_t rows, int64_t n, double eps);
void add_layer_norm(Cuda, float* sum, float* y, float* mean, float* rstd, const float* a, const float* b,
                    const float* w, const float* bias, int64_t rows, int64_t n, double eps);
// As above; dw, db are added to; any of them may be null.
template <class T>
void layer_norm_backward(Cpu, T* dx, bool accumulate, Sum<T>* dw, Sum<T>* db, const T* dy, ConstRows<T> x,
                         const Sum<T>* w, const Sum<T>* mean, const Sum<T>* rstd, int64_t rows, int64_t n,
                         Sum<T>* scratch = nullptr);
template <class T>
void layer_norm_backward(Cuda, T* dx, bool accumulate, Sum<T>* dw, Sum<T>* db, const T* dy, ConstRows<T> x,
                         const Sum<T>* w, const Sum<T>* mean, const Sum<T>* rstd, int64_t rows, int64_t n,
                         Sum<T>* scratch = nullptr);

}  // namespace lathe::kernel
