// Products of tiles with the vectors of avx2.
#if defined(__x86_64__)
#define LATHE_GEMM_NAMESPACE eigen_avx2
#include "kernels/cpu/gemm_eigen.h"

namespace lathe::cpu {

void gemm_tile_avx2(const GemmArguments<float>& g) { eigen_tile(g); }

}  // namespace lathe::cpu
#endif
