#include "kernels/cpu/training.h"

#include "tensor/cpu_features.h"

namespace lathe::cpu {

const TrainingKernels& training_kernels() {
  switch (cpu_isa()) {
    case CpuIsa::amx:
    case CpuIsa::avx512_vnni: return *training_avx512_vnni();
    case CpuIsa::avx512: return *training_avx512();
    case CpuIsa::avx_vnni:
    case CpuIsa::avx2: return *training_avx2();
    case CpuIsa::neon_i8mm:
    case CpuIsa::neon_dot:
    case CpuIsa::neon: return *training_neon();
    case CpuIsa::portable: break;
  }
  return *training_portable();
}

}  // namespace lathe::cpu
