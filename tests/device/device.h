// The device of tests over the whole library: emulated, or in a build with CUDA the first of the machine.
#pragma once
#include "tensor/tensor.h"

namespace lathe::test {

inline constexpr Device kCudaDevice{Device::Kind::cuda};

}  // namespace lathe::test
