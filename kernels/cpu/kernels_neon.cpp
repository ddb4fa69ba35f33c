// The kernels, compiled for neon.
#include "kernels/cpu/dispatch.h"

#if defined(__aarch64__)
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/paged_attention_tiles.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/simd_neon.h"

namespace lathe::cpu {
namespace {
constexpr Kernels kTable{LinearTiles<Neon>::kTable, AttentionTiles<Neon>::kTable, RowKernels<Neon>::kTable,
                         PeakLoops<Neon>::table()};
}
const Kernels* kernels_neon() { return &kTable; }
}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const Kernels* kernels_neon() { return nullptr; }
}  // namespace lathe::cpu
#endif
