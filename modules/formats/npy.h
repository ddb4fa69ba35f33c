// NumPy's .npy (specification: numpy.lib.format): f32 tensors out in version 1.0, lists of integers in.
#pragma once
#include <memory>
#include <string>

#include "formats/mapped_file.h"
#include "tensor/tensor.h"

namespace lathe {

// Writes a contiguous f32 tensor of any rank under a temporary name and renames it when whole. Throws Error naming the
// path when it cannot be written.
void write_npy(const std::string& path, const Tensor& tensor);

// A list of integers as it lies in the file.
struct NpyIntegers {
  enum class Type : uint8_t { i32, i64, u16, u32 } type;
  int64_t size = 0;
  std::shared_ptr<const MappedFile> file;
  const uint8_t* data = nullptr;  // at any address

  int64_t at(int64_t index) const;
};
// Throws Error naming the file for what is no .npy file, is cut short, or holds something else than one dimension of
// int32, int64, uint16 or uint32 in little-endian order.
NpyIntegers open_npy_integers(const std::string& path);

}  // namespace lathe
