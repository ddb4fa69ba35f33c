// NumPy's .npy, version 1.0 (specification: numpy.lib.format).
#pragma once
#include <string>

#include "tensor/tensor.h"

namespace lathe {

// Writes a contiguous f32 tensor of any rank under a temporary name and renames it when whole. Throws Error naming the
// path when it cannot be written.
void write_npy(const std::string& path, const Tensor& tensor);

}  // namespace lathe
