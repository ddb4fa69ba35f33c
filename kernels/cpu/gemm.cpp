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

namespace lathe::cpu {
namespace {

template <class T>
void tile(const GemmArguments<T>& g) {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<T, float>) {
    const CpuIsa isa = cpu_isa();
    if (isa >= CpuIsa::avx512) return gemm_tile_avx512(g);
    if (isa == CpuIsa::avx2) return gemm_tile_avx2(g);
  }
#endif
  eigen_tile(g);
}

// Every tile packs the whole other operand again, which at 96 rows costs a few percent; 16 tiles feed 16 threads.
constexpr int64_t kTileStep = 48, kSmallestTile = 96, kTiles = 16;
constexpr int64_t kSmallProduct = int64_t{1} << 19;  // multiplications that are not worth waking the team for

}  // namespace

template <class T>
void gemm(T* c, int64_t ldc, const T* a, int64_t lda, bool transpose_a, const T* b, int64_t ldb, bool transpose_b,
          int64_t m, int64_t n, int64_t k, bool accumulate) {
  const ProfileScope profile([&] {
    return ProfiledCall{"gemm", static_cast<int64_t>(sizeof(T)) * (m * k + k * n + m * n), 2 * m * n * k};
  });
  if (m == 0 || n == 0) return;
  const GemmArguments<T> whole{c, ldc, a, lda, transpose_a, b, ldb, transpose_b, m, n, k, accumulate};
  const int64_t longer = std::max(m, n);
  if (longer <= kSmallestTile || m * n * std::max<int64_t>(k, 1) <= kSmallProduct) return tile(whole);
  const int64_t size = std::max(kSmallestTile, (longer + kTiles - 1) / kTiles + kTileStep - 1) / kTileStep * kTileStep;
  parallel_for((longer + size - 1) / size, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      GemmArguments<T> part = whole;
      const int64_t first = i * size;
      if (m >= n) {
        part.m = std::min(size, m - first);
        part.c += first * ldc;
        part.a += transpose_a ? first : first * lda;
      } else {
        part.n = std::min(size, n - first);
        part.c += first;
        part.b += transpose_b ? first * ldb : first;
      }
      tile(part);
    }
  });
}
template void gemm(float*, int64_t, const float*, int64_t, bool, const float*, int64_t, bool, int64_t, int64_t, int64_t,
                   bool);
template void gemm(double*, int64_t, const double*, int64_t, bool, const double*, int64_t, bool, int64_t, int64_t,
                   int64_t, bool);

}  // namespace lathe::cpu
