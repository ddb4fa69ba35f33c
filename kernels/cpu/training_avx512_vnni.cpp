// The training kernels of avx512 with products of pairs of bf16.
#include "kernels/cpu/training.h"

#if defined(__AVX512BF16__)
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/simd_avx512.h"

namespace lathe::cpu {
namespace {

// vdpbf16ps runs at twice the rate of fma on AMD's cores and at about half of it on Intel's, where the values are
// rounded all the same but multiplied as floats.
bool multiplies_pairs_faster() {
  __builtin_cpu_init();
  return __builtin_cpu_is("amd") != 0;
}

TrainingKernels with_pairs(TrainingKernels table) {
  if (multiplies_pairs_faster()) table.gemm.bf16 = GemmTiles<Avx512Vnni, GemmForm::pairs>::kKernels;
  return table;
}

}  // namespace

const TrainingKernels* training_avx512_vnni() {
  static const TrainingKernels table = with_pairs(*training_avx512());
  return &table;
}
const GemmKernels* gemm_of_pairs() { return &GemmTiles<Avx512Vnni, GemmForm::pairs>::kKernels; }

}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const TrainingKernels* training_avx512_vnni() { return nullptr; }
const GemmKernels* gemm_of_pairs() { return nullptr; }
}  // namespace lathe::cpu
#endif
