// The kernels of avx2 with the instruction that multiplies bytes.
#include "kernels/cpu/dispatch.h"

#if defined(__AVXVNNI__)
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/simd_avx2.h"

namespace lathe::cpu {
namespace {

Kernels with_bytes(Kernels table) {
  using Tiles = LinearTiles<AvxVnni>;
  using Peaks = PeakLoops<AvxVnni>;
  const int int8 = static_cast<int>(Arithmetic::int8);
  table.linear.few[int8] = table.linear.many[int8] = Tiles::kInt8;
  table.peaks.integers = Peaks::run<Peaks::IntegerSum>;
  return table;
}

}  // namespace

const Kernels* kernels_avx_vnni() {
  static const Kernels table = with_bytes(*kernels_avx2());
  return &table;
}

}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const Kernels* kernels_avx_vnni() { return nullptr; }
}  // namespace lathe::cpu
#endif
