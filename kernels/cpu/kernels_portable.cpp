// The kernels, compiled for portable.
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/simd_portable.h"

namespace lathe::cpu {
namespace {
constexpr Kernels kTable{LinearTiles<Portable>::kTable};
}
const Kernels* kernels_portable() { return &kTable; }
}  // namespace lathe::cpu
