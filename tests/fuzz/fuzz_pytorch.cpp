// libFuzzer target: any bytes as a pytorch_model.bin. They are read or refused with lathe::Error; a tensor that is
// handed out lies within the file.
#include "formats/pytorch_file.h"
#include "tensor/errors.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const lathe::test::InputFile input(data, size);
  try {
    for (const lathe::StoredTensor& tensor : lathe::read_pytorch_file(input.path())) {
      if (tensor.bytes == 0) continue;
      const auto bytes = tensor.file->bytes();
      if (tensor.data < bytes.data() || tensor.data + tensor.bytes > bytes.data() + bytes.size()) std::abort();
    }
  } catch (const lathe::Error&) {}
  return 0;
}
