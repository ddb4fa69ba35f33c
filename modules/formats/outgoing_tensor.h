// A tensor that is to be written: described before its values exist, so that a file of any size is written while no
// more than one tensor is in memory.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace lathe {

struct OutgoingTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;     // PyTorch order
  std::function<Tensor()> value;  // a contiguous tensor of that dtype and shape; called once, when its turn has come

  size_t bytes() const {
    int64_t elements = 1;
    for (const int64_t dim : shape) elements *= dim;
    return bytes_of(dtype, elements);
  }
};

}  // namespace lathe
