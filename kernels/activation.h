// Element-wise functions of feed-forward nets, plain and gated, and the few that residual streams need. T: float,
// double.
#pragma once
#include "kernels/device.h"

namespace lathe {

// silu: x sigmoid(x).  gelu_exact: x Phi(x) with erf.  gelu_tanh: its tanh form (Hendrycks and Gimpel 2016, section 2).
enum class Activation : uint8_t { silu, gelu_exact, gelu_tanh };

namespace kernel {

// y (rows, n) contiguous = f(x).
template <class T>
void activation(Cpu, T* y, ConstRows<T> x, int64_t rows, int64_t n, Activation f);
template <class T>
void activation(Cuda, T* y, ConstRows<T> x, int64_t rows, int64_t n, Activation f);
template <class T>
void activation_backward(Cpu, T* dx, const T* dy, ConstRows<T> x, int64_t rows, int64_t n, Activation f);
template <class T>
void activation_backward(Cuda, T* dx, const T* dy, ConstRows<T> x, int64_t rows, int64_t n, Activation f);

// y (rows, n) contiguous = f(gate) * up (Shazeer 2020, eq. 6).
template <class T>
void gated_activation(Cpu, T* y, ConstRows<T> gate, ConstRows<T> up, int64_t rows, int64_t n, Activation f);
template <class T>
void gated_activation(Cuda, T* y, ConstRows<T> gate, ConstRows<T> up, int64_t rows, int64_t n, Activation f);
template <class T>
void gated_activation_backward(Cpu, Rows<T> dgate, Rows<T> dup, const T* dy, ConstRows<T> gate, ConstRows<T> up,
                               int64_t rows, int64_t n, Activation f);
template <class T>
void gated_activation_backward(Cuda, Rows<T> dgate, Rows<T> dup, const T* dy, ConstRows<T> gate, ConstRows<T> up,
                               int64_t rows, int64_t n, Activation f);

// y (rows, n) = value.
template <class T>
void fill(Cpu, Rows<T> y, double value, int64_t rows, int64_t n);
template <class T>
void fill(Cuda, Rows<T> y, double value, int64_t rows, int64_t n);
// y = a + b, y = a * b, y = factor * a; n contiguous elements; y may be a or b.
template <class T>
void add(Cpu, T* y, const T* a, const T* b, int64_t n);
template <class T>
void add(Cuda, T* y, const T* a, const T* b, int64_t n);
// y (rows, n) = x (rows, n), or += where `accumulate`.
template <class T>
void put_rows(Cpu, Rows<T> y, ConstRows<T> x, int64_t rows, int64_t n, bool accumulate);
template <class T>
void put_rows(Cuda, Rows<T> y, ConstRows<T> x, int64_t rows, int64_t n, bool accumulate);
template <class T>
void multiply(Cpu, T* y, const T* a, const T* b, int64_t n);
template <class T>
void multiply(Cuda, T* y, const T* a, const T* b, int64_t n);
template <class T>
void scale(Cpu, T* y, const T* a, double factor, int64_t n);
template <class T>
void scale(Cuda, T* y, const T* a, double factor, int64_t n);

}  // namespace kernel
}  // namespace lathe
