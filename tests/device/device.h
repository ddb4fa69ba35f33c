// The emulated device of tests over the whole library.
#pragma once
#include "tensor/tensor.h"

namespace lathe::test {

inline constexpr Device kCudaDevice{Device::Kind::cuda};

}  // namespace lathe::test
