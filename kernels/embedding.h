// Rows of a table by index, and the sum of gradients back into it. Also what row selection is made of.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace lathe::cpu {

// y (N, C) = table[ids[n]], table (V, C) row-major in `dtype`, rows `row_bytes` apart; widened to f32 exactly. Ids are
// within the table.
void embedding(float* y, const void* table, DType dtype, size_t row_bytes, const int32_t* ids, int64_t n,
               int64_t columns);
void embedding(double* y, const double* table, int64_t ldt, const int32_t* ids, int64_t n, int64_t columns);
// dtable (V, C) += dy (N, C), row n into row ids[n]. Threads split columns and each adds the tokens in order, so equal
// ids meet in one order.
template <class T>
void embedding_backward(T* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t columns);

}  // namespace lathe::cpu
