// The kernels, compiled for avx512.
#include "kernels/cpu/dispatch.h"

#if defined(__AVX512F__)
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/paged_attention_tiles.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/simd_avx512.h"

namespace lathe::cpu {
namespace {
constexpr Kernels kTable{LinearTiles<Avx512>::kTable, AttentionTiles<Avx512>::kTable, RowKernels<Avx512>::kTable,
                         PeakLoops<Avx512>::table()};
}
const Kernels* kernels_avx512() { return &kTable; }
}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const Kernels* kernels_avx512() { return nullptr; }
}  // namespace lathe::cpu
#endif
