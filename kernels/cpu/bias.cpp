#include "kernels/bias.h"

#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {

template <class T>
void add_column_sums(Cpu, T* sums, ConstRows<T> x, int64_t rows, int64_t n) {
  const ProfileScope profile([&] { return ProfiledCall{"add_column_sums", int64_t{sizeof(T)} * rows * n, rows * n}; });
  parallel_for(n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t c = begin; c < end; ++c) sums[c] += x[row][c];
  });
}

template void add_column_sums(Cpu, float*, ConstRows<float>, int64_t, int64_t);
template void add_column_sums(Cpu, double*, ConstRows<double>, int64_t, int64_t);

}  // namespace lathe::kernel
