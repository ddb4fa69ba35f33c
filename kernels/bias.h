// Biases around library products (the inference linears add their own).
#pragma once
#include "kernels/device.h"

namespace lathe::kernel {

// Every row of y (rows, n) = bias (n): what a product then accumulates onto.
template <class T>
void broadcast_rows(Cpu, Rows<T> y, const T* bias, int64_t rows, int64_t n);
// sums (n) += the column sums of x (rows, n), rows in order.
template <class T>
void add_column_sums(Cpu, T* sums, ConstRows<T> x, int64_t rows, int64_t n);

}  // namespace lathe::kernel
