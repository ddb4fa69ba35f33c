// Embedding look-up and its gradient.
#include "kernels/embedding.h"

#include <algorithm>

#include "kernels/quantise.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

// f(i) for n rows of so many elements, shared out between the threads.
template <class F>
void for_each_row(int64_t n, int64_t columns, F&& f) {
  parallel_for(n, std::max<int64_t>(1, 2 * kGrainElements / std::max<int64_t>(1, columns)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) f(i);
               });
}

}  // namespace

void embedding(Cpu, float* y, const void* table, DType dtype, size_t row_bytes, const int32_t* ids, int64_t n,
               int64_t columns) {
  const ProfileScope profile([&] {
    return ProfiledCall{"embedding", n * (static_cast<int64_t>(bytes_of(dtype, columns)) + 4 * columns), 0};
  });
  const char* rows = static_cast<const char*>(table);
  for_each_row(n, columns, [&](int64_t i) {
    dequantise_row(y + i * columns, rows + static_cast<size_t>(ids[i]) * row_bytes, dtype, columns);
  });
}

void embedding(Cpu on, float* y, const PackedMatrix& table, const int32_t* ids, int64_t n) {
  const ProfileScope profile([&] {
    return ProfiledCall{"embedding",
                        n * (static_cast<int64_t>(bytes_of(table.dtype, table.columns)) + 4 * table.columns), 0};
  });
  for (int64_t i = 0; i < n; ++i) unpack_rows(on, y + i * table.columns, table, ids[i], 1);
}

template <class T>
void select_rows(Cpu, T* y, ConstRows<T> x, const int32_t* ids, int64_t n, int64_t columns) {
  const ProfileScope profile([&] { return ProfiledCall{"select_rows", 2 * int64_t{sizeof(T)} * n * columns}; });
  for_each_row(n, columns, [&](int64_t i) { std::copy_n(x[ids[i]], columns, y + i * columns); });
}

template <class T>
void embedding_backward(Cpu, Sum<T>* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t columns) {
  const ProfileScope profile([&] {
    return ProfiledCall{"embedding_backward", 3 * int64_t{sizeof(T)} * n * columns, n * columns};
  });
  parallel_for(columns, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < n; ++i) {
      Sum<T>* out = dtable + ids[i] * columns;
      const T* in = dy + i * columns;
      for (int64_t c = begin; c < end; ++c) out[c] += in[c];
    }
  });
}

template void select_rows(Cpu, float*, ConstRows<float>, const int32_t*, int64_t, int64_t);
template void select_rows(Cpu, double*, ConstRows<double>, const int32_t*, int64_t, int64_t);
template void embedding_backward(Cpu, float*, const float*, const int32_t*, int64_t, int64_t);
template void embedding_backward(Cpu, double*, const double*, const int32_t*, int64_t, int64_t);

}  // namespace lathe::kernel
