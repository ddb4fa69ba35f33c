// What a model runs on, in words.
#pragma once
#include <string>

#include "tensor/tensor.h"

namespace lathe {

// "cuda:0, NVIDIA H100 80GB HBM3, sm_90": a CUDA device, and where its driver had to compile the kernels, that it did.
// Throws Error where the program has no kernels for it.
std::string describe_device(Device device);

}  // namespace lathe
