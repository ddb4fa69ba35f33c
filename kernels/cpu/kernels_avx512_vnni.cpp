// The kernels of avx512 with the instructions that multiply bytes and pairs of bf16.
#include "kernels/cpu/dispatch.h"

#if defined(__AVX512VNNI__)
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/simd_avx512.h"

namespace lathe::cpu {
namespace {

Kernels with_vnni(Kernels table) {
  using Tiles = LinearTiles<Avx512Vnni>;
  using Peaks = PeakLoops<Avx512Vnni>;
  const int bf16 = static_cast<int>(Arithmetic::bf16), int8 = static_cast<int>(Arithmetic::int8);
  table.linear.few[bf16] = table.linear.many[bf16] = Tiles::kBf16;
  table.linear.few[int8] = table.linear.many[int8] = Tiles::kInt8;
  table.peaks.integers = Peaks::run<Peaks::IntegerSum>;
  table.peaks.bf16 = Peaks::run<Peaks::PairSum>;
  return table;
}

}  // namespace

const Kernels* kernels_avx512_vnni() {
  static const Kernels table = with_vnni(*kernels_avx512());
  return &table;
}

}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const Kernels* kernels_avx512_vnni() { return nullptr; }
}  // namespace lathe::cpu
#endif
