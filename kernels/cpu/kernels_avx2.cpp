// The kernels, compiled for avx2.
#include "kernels/cpu/dispatch.h"

#if defined(__AVX2__)
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/paged_attention_tiles.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/simd_avx2.h"

namespace lathe::cpu {
namespace {
constexpr Kernels kTable{LinearTiles<Avx2>::kTable, AttentionTiles<Avx2>::kTable, RowKernels<Avx2>::kTable,
                         PeakLoops<Avx2>::table()};
}
const Kernels* kernels_avx2() { return &kTable; }
}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const Kernels* kernels_avx2() { return nullptr; }
}  // namespace lathe::cpu
#endif
