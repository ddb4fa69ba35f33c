#include "kernels/cpu/dispatch.h"

#include "tensor/cpu_features.h"

namespace lathe::cpu {

const Kernels& kernels() {
  switch (cpu_isa()) {
    case CpuIsa::amx: return *kernels_amx();
    case CpuIsa::avx512_vnni: return *kernels_avx512_vnni();
    case CpuIsa::avx512: return *kernels_avx512();
    case CpuIsa::avx_vnni: return *kernels_avx_vnni();
    case CpuIsa::avx2: return *kernels_avx2();
    case CpuIsa::neon_i8mm: return *kernels_neon_i8mm();
    case CpuIsa::neon_dot: return *kernels_neon_dot();
    case CpuIsa::neon: return *kernels_neon();
    case CpuIsa::portable: break;
  }
  return *kernels_portable();
}

}  // namespace lathe::cpu
