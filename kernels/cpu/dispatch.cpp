#include "kernels/cpu/dispatch.h"

#include "tensor/cpu_features.h"

namespace lathe::cpu {

const Kernels& kernels() {
  switch (cpu_isa()) {
    case CpuIsa::amx: return *kernels_amx();
    case CpuIsa::avx512_vnni: return *kernels_avx512_vnni();
    case CpuIsa::avx512: return *kernels_avx512();
    case CpuIsa::avx2: return *kernels_avx2();
    case CpuIsa::portable: break;
  }
  return *kernels_portable();
}

}  // namespace lathe::cpu
