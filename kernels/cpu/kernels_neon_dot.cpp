// The kernels of neon with the instruction that adds four products of bytes.
#include "kernels/cpu/dispatch.h"

#if defined(__ARM_FEATURE_DOTPROD)
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/simd_neon.h"

namespace lathe::cpu {
namespace {

Kernels with_dot(Kernels table) {
  const int int8 = static_cast<int>(Arithmetic::int8);
  table.linear.few[int8] = table.linear.many[int8] = LinearTiles<NeonDot>::kInt8;
  table.peaks.integers = PeakLoops<NeonDot>::run<PeakLoops<NeonDot>::IntegerSum>;
  return table;
}

}  // namespace

const Kernels* kernels_neon_dot() {
  static const Kernels table = with_dot(*kernels_neon());
  return &table;
}

}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const Kernels* kernels_neon_dot() { return nullptr; }
}  // namespace lathe::cpu
#endif
