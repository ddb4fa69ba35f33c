// What some families do to queries, keys and values between their projection and attention: a clamp (MPT) and a factor
// by token (Qwen's log-n attention). Rows x of n elements in, contiguous rows out. T: float, double.
#pragma once
#include "kernels/device.h"

namespace lathe::kernel {

// y = x within [-bound, bound]; NaN stays NaN.
template <class T>
void clamp(Cpu, T* y, ConstRows<T> x, T bound, int64_t rows, int64_t n);
template <class T>
void clamp(Cuda, T* y, ConstRows<T> x, T bound, int64_t rows, int64_t n);
// dx = dy where x lies within, its borders included, else 0; dy contiguous.
template <class T>
void clamp_backward(Cpu, T* dx, const T* dy, ConstRows<T> x, T bound, int64_t rows, int64_t n);
template <class T>
void clamp_backward(Cuda, T* dx, const T* dy, ConstRows<T> x, T bound, int64_t rows, int64_t n);

// factors (n) = max(1, log(position + 1) / log(base)).
template <class T>
void log_position_factors(Cpu, T* factors, const int32_t* positions, int64_t n, int64_t base);
template <class T>
void log_position_factors(Cuda, T* factors, const int32_t* positions, int64_t n, int64_t base);
// y = factors[row] * x; factors (rows).
template <class T>
void scale_rows(Cpu, T* y, ConstRows<T> x, const T* factors, int64_t rows, int64_t n);
template <class T>
void scale_rows(Cuda, T* y, ConstRows<T> x, const T* factors, int64_t rows, int64_t n);

}  // namespace lathe::kernel
