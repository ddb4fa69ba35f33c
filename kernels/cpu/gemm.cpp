// Products cut into tiles along the longer side of C. The cut depends on the shape alone, so that the number of
// threads does not change a bit.
#define LATHE_GEMM_NAMESPACE eigen_portable
#include "kernels/gemm.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/gemm_eigen.h"
#include "tensor/cpu_features.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe {

template <class T>
void cpu::gemm_tile(const GemmArguments<T>& g) {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<T, float>) {
    const CpuIsa isa = cpu_isa();
    if (isa >= CpuIsa::avx512) return gemm_tile_avx512(g);
    if (isa == CpuIsa::avx2) return gemm_tile_avx2(g);
  }
#endif
  eigen_tile(g);
}
template void cpu::gemm_tile(const GemmArguments<float>&);
template void cpu::gemm_tile(const GemmArguments<double>&);

namespace kernel {
namespace {

// Every tile packs the whole other operand again, which at 96 rows costs a few percent; 16 tiles feed 16 threads.
constexpr int64_t kTileStep = 48, kSmallestTile = 96, kTiles = 16;
constexpr int64_t kSmallProduct = int64_t{1} << 19;  // multiplications that are not worth waking the team for

}  // namespace

template <class T>
void gemm(Cpu, Rows<T> c, ConstRows<T> a, bool transpose_a, ConstRows<T> b, bool transpose_b, int64_t m, int64_t n,
          int64_t k, bool accumulate) {
  const ProfileScope profile([&] {
    return ProfiledCall{"gemm", static_cast<int64_t>(sizeof(T)) * (m * k + k * n + m * n), 2 * m * n * k};
  });
  if (m == 0 || n == 0) return;
  const cpu::GemmArguments<T> whole{c.data,   c.stride,    a.data, a.stride, transpose_a, b.data,
                                    b.stride, transpose_b, m,      n,        k,           accumulate};
  const int64_t longer = std::max(m, n);
  if (longer <= kSmallestTile || m * n * std::max<int64_t>(k, 1) <= kSmallProduct) return cpu::gemm_tile(whole);
  const int64_t size = std::max(kSmallestTile, (longer + kTiles - 1) / kTiles + kTileStep - 1) / kTileStep * kTileStep;
  parallel_for((longer + size - 1) / size, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      cpu::GemmArguments<T> part = whole;
      const int64_t first = i * size;
      if (m >= n) {
        part.m = std::min(size, m - first);
        part.c += first * c.stride;
        part.a += transpose_a ? first : first * a.stride;
      } else {
        part.n = std::min(size, n - first);
        part.c += first;
        part.b += transpose_b ? first * b.stride : first;
      }
      cpu::gemm_tile(part);
    }
  });
}

template void gemm(Cpu, Rows<float>, ConstRows<float>, bool, ConstRows<float>, bool, int64_t, int64_t, int64_t, bool);
template void gemm(Cpu, Rows<double>, ConstRows<double>, bool, ConstRows<double>, bool, int64_t, int64_t, int64_t,
                   bool);

}  // namespace kernel
}  // namespace lathe
