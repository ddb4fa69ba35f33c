// Bias rows and their gradient.
#include "kernels/bias.h"

#include <algorithm>

#include "tensor/threads.h"

namespace lathe::cpu {

template <class T>
void broadcast_rows(T* y, int64_t ldy, const T* bias, int64_t rows, int64_t n) {
  for (int64_t row = 0; row < rows; ++row) std::copy_n(bias, n, y + row * ldy);
}
template void broadcast_rows(float*, int64_t, const float*, int64_t, int64_t);
template void broadcast_rows(double*, int64_t, const double*, int64_t, int64_t);

template <class T>
void add_column_sums(T* sums, const T* x, int64_t ldx, int64_t rows, int64_t n) {
  parallel_for(n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t c = begin; c < end; ++c) sums[c] += x[row * ldx + c];
  });
}
template void add_column_sums(float*, const float*, int64_t, int64_t, int64_t);
template void add_column_sums(double*, const double*, int64_t, int64_t, int64_t);

}  // namespace lathe::cpu
