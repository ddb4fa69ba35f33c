// See npy.h. Layout: magic, version, header length (u16), a Python dictionary padded with spaces and closed by a line
// break so that the data begins at a multiple of 64, data in C order.
#include "formats/npy.h"

#include <bit>

#include "formats/atomic_file.h"

namespace lathe {

static_assert(std::endian::native == std::endian::little, "'<f4' is written as it lies in memory");

void write_npy(const std::string& path, const Tensor& tensor) {
  check(tensor.defined() && tensor.dtype() == DType::f32 && tensor.contiguous(), "npy",
        "{}: expected a contiguous f32 tensor, found {}", path, tensor.defined() ? tensor.describe() : "none");
  std::string shape;
  for (const int64_t dim : tensor.shape()) shape += fmt::format("{}, ", dim);
  if (tensor.rank() > 0) shape.resize(shape.size() - (tensor.rank() == 1 ? 1 : 2));  // "3," is a tuple, "3" is none
  std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", shape);
  constexpr size_t kPreamble = 10;
  header.resize((kPreamble + header.size() + 1 + 63) / 64 * 64 - kPreamble - 1, ' ');
  header += '\n';

  AtomicFile file(path);
  const char preamble[kPreamble] = {'\x93',
                                    'N',
                                    'U',
                                    'M',
                                    'P',
                                    'Y',
                                    1,
                                    0,
                                    static_cast<char>(header.size() & 0xff),
                                    static_cast<char>(header.size() >> 8)};
  file.write(preamble, sizeof preamble);
  file.write(header);
  file.write(tensor.raw(), tensor.bytes());
  file.commit();
}

}  // namespace lathe
