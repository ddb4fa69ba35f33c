// Biases around library products (the inference linears add their own).
#pragma once
#include <cstdint>

namespace lathe::cpu {

// Every row of y (rows, n; row stride ldy) = bias (n): what a product then accumulates onto.
template <class T>
void broadcast_rows(T* y, int64_t ldy, const T* bias, int64_t rows, int64_t n);
// sums (n) += the column sums of x (rows, n; row stride ldx), rows in order.
template <class T>
void add_column_sums(T* sums, const T* x, int64_t ldx, int64_t rows, int64_t n);

}  // namespace lathe::cpu
