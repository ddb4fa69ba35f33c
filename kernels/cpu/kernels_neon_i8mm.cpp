// The kernels of neon with the instructions that multiply matrices of bytes.
#include "kernels/cpu/dispatch.h"

#if defined(__ARM_FEATURE_MATMUL_INT8)
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/simd_neon.h"

namespace lathe::cpu {
namespace {

Kernels with_i8mm(Kernels table) {
  const int int8 = static_cast<int>(Arithmetic::int8);
  table.linear.few[int8] = table.linear.many[int8] = LinearTiles<NeonI8mm>::kInt8;
  table.peaks.integers = PeakLoops<NeonI8mm>::run<PeakLoops<NeonI8mm>::MatrixSum>;
  return table;
}

}  // namespace

const Kernels* kernels_neon_i8mm() {
  static const Kernels table = with_i8mm(*kernels_neon());
  return &table;
}

}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const Kernels* kernels_neon_i8mm() { return nullptr; }
}  // namespace lathe::cpu
#endif
