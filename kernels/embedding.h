// Rows of a table by index, and the sum of gradients back into it. Also what row selection is made of.
#pragma once
#include "kernels/device.h"
#include "kernels/packed_linear.h"

namespace lathe::kernel {

// y (N, C) = table[ids[n]], table (V, C) row-major in `dtype`, rows `row_bytes` apart; widened to f32 exactly. Ids are
// within the table.
void embedding(Cpu, float* y, const void* table, DType dtype, size_t row_bytes, const int32_t* ids, int64_t n,
               int64_t columns);
void embedding(Cuda, float* y, const void* table, DType dtype, size_t row_bytes, const int32_t* ids, int64_t n,
               int64_t columns);
// The same for a table that was packed for inference.
void embedding(Cpu, float* y, const PackedMatrix& table, const int32_t* ids, int64_t n);
void embedding(Cuda, float* y, const PackedMatrix& table, const int32_t* ids, int64_t n);
// Rows of activations, T: float, double.
template <class T>
void select_rows(Cpu, T* y, ConstRows<T> x, const int32_t* ids, int64_t n, int64_t columns);
template <class T>
void select_rows(Cuda, T* y, ConstRows<T> x, const int32_t* ids, int64_t n, int64_t columns);
// dtable (V, C) += dy (N, C), row n into row ids[n]. Threads split columns and each adds the tokens in order, so equal
// ids meet in one order.
template <class T>
void embedding_backward(Cpu, Sum<T>* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t columns);
template <class T>
void embedding_backward(Cuda, Sum<T>* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t columns);

}  // namespace lathe::kernel
