// Products of tiles with the vectors of avx512.
#if defined(__x86_64__)
#define LATHE_GEMM_NAMESPACE eigen_avx512
#include "kernels/cpu/gemm_eigen.h"

namespace lathe::cpu {

void gemm_tile_avx512(const GemmArguments<float>& g) { eigen_tile(g); }

}  // namespace lathe::cpu
#endif
