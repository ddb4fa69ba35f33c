// Embedding look-up and its gradient.
#include "kernels/embedding.h"

#include <algorithm>

#include "kernels/packed_linear.h"
#include "tensor/threads.h"

namespace lathe::cpu {

void embedding(float* y, const void* table, DType dtype, size_t row_bytes, const int32_t* ids, int64_t n,
               int64_t columns) {
  const char* rows = static_cast<const char*>(table);
  parallel_for(n, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, columns)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      dequantise_row(y + i * columns, rows + static_cast<size_t>(ids[i]) * row_bytes, dtype, columns);
  });
}

void embedding(double* y, const double* table, int64_t ldt, const int32_t* ids, int64_t n, int64_t columns) {
  for (int64_t i = 0; i < n; ++i) std::copy_n(table + ids[i] * ldt, columns, y + i * columns);
}

template <class T>
void embedding_backward(T* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t columns) {
  parallel_for(columns, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < n; ++i) {
      T* out = dtable + ids[i] * columns;
      const T* in = dy + i * columns;
      for (int64_t c = begin; c < end; ++c) out[c] += in[c];
    }
  });
}
template void embedding_backward(float*, const float*, const int32_t*, int64_t, int64_t);
template void embedding_backward(double*, const double*, const int32_t*, int64_t, int64_t);

}  // namespace lathe::cpu
