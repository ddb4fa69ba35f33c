// The gradients of biases whose weight is not trained (the others come with the product of their weight).
#pragma once
#include "kernels/device.h"

namespace lathe::kernel {

// sums (n) += the column sums of x (rows, n), rows in order.
template <class T>
void add_column_sums(Cpu, T* sums, ConstRows<T> x, int64_t rows, int64_t n);
template <class T>
void add_column_sums(Cuda, T* sums, ConstRows<T> x, int64_t rows, int64_t n);

}  // namespace lathe::kernel
