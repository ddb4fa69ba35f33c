// Tensors on the emulated device, for tests that call the kernels of kernels/cuda themselves.
#pragma once
#include "autograd/dispatch.h"
#include "tensor/stream.h"
#include "tests/simt/schedules.h"

namespace lathe::test {

inline constexpr Device kCudaDevice{Device::Kind::cuda};

inline Tensor on_device(const Tensor& x) { return x.to(kCudaDevice); }
// Waits for what the stream has to do.
inline Tensor on_host(const Tensor& x) { return x.to(Device{}); }
inline Cuda cuda() { return {Stream::current(kCudaDevice)}; }

}  // namespace lathe::test
