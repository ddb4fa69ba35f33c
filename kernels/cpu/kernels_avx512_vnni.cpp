// The kernels, compiled for avx512_vnni.
#include "kernels/cpu/dispatch.h"

#if defined(__AVX512VNNI__)
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/paged_attention_tiles.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/simd_avx512.h"

namespace lathe::cpu {
namespace {
constexpr Kernels kTable{LinearTiles<Avx512Vnni>::kTable, AttentionTiles<Avx512Vnni>::kTable,
                         RowKernels<Avx512Vnni>::kTable, PeakLoops<Avx512Vnni>::table()};
}
const Kernels* kernels_avx512_vnni() { return &kTable; }
}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const Kernels* kernels_avx512_vnni() { return nullptr; }
}  // namespace lathe::cpu
#endif
