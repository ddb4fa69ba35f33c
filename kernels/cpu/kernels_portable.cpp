// The kernels, compiled for portable.
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/paged_attention_tiles.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/simd_portable.h"

namespace lathe::cpu {
namespace {
constexpr Kernels kTable{LinearTiles<Portable>::kTable, AttentionTiles<Portable>::kTable, RowKernels<Portable>::kTable,
                         PeakLoops<Portable>::table()};
}
const Kernels* kernels_portable() { return &kTable; }
}  // namespace lathe::cpu
