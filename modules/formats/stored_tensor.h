// A tensor as a checkpoint file holds it: a name, a type, a shape and bytes that stay in the mapped file.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/mapped_file.h"
#include "tensor/dtype.h"

namespace lathe {

struct StoredTensor {
  std::string name;
  std::optional<DType> dtype;  // empty when the library has no such type; `type_name` says which it is
  std::string type_name;       // as the format spells it: "F32", "BF16", "Q4_K"
  std::vector<int64_t> shape;  // PyTorch order, outermost first
  const uint8_t* data = nullptr;
  size_t bytes = 0;
  std::shared_ptr<const MappedFile> file;  // keeps `data` alive
};

}  // namespace lathe
