#include "autograd/precision.h"

#include "autograd/dispatch.h"
#include "kernels/gemm.h"

namespace lathe {

template <>
Precision*& Active<Precision>::slot() {
  static thread_local Precision* precision = nullptr;
  return precision;
}

bool Precision::multiplies_bf16(const Tensor& weights) {
  return dispatch_size("precision", weights, [](auto on) { return kernel::gemm_multiplies_bf16(on); }) != 0;
}

}  // namespace lathe
