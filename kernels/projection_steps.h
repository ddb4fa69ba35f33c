// What some families do to queries, keys and values between their projection and attention: a clamp (MPT) and a factor
// by token (Qwen's log-n attention). Rows x of n elements with stride ldx in, contiguous rows out. T: float, double.
#pragma once
#include <cstdint>

namespace lathe::cpu {

// y = x within [-bound, bound]; NaN stays NaN.
template <class T>
void clamp(T* y, const T* x, int64_t ldx, T bound, int64_t rows, int64_t n);
// dx = dy where x lies within, its borders included, else 0; dy contiguous.
template <class T>
void clamp_backward(T* dx, const T* dy, const T* x, int64_t ldx, T bound, int64_t rows, int64_t n);

// y = factors[row] * x; factors (rows).
template <class T>
void scale_rows(T* y, const T* x, int64_t ldx, const T* factors, int64_t rows, int64_t n);

}  // namespace lathe::cpu
