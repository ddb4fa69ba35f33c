// libFuzzer target: any bytes as a .gguf file, and its metadata as a model's description. They are read or refused with
// lathe::Error; a tensor that is handed out lies within the file.
#include "config/model_config.h"
#include "formats/gguf.h"
#include "llm/registry.h"
#include "tensor/errors.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const lathe::test::InputFile input(data, size);
  try {
    const auto file = lathe::GgufFile::open(input.path());
    for (const lathe::StoredTensor& tensor : file->tensors()) {
      if (tensor.bytes == 0) continue;
      const auto bytes = tensor.file->bytes();
      if (tensor.data < bytes.data() || tensor.data + tensor.bytes > bytes.data() + bytes.size()) std::abort();
    }
    lathe::read_config_gguf(*file, lathe::family_configs());
  } catch (const lathe::Error&) {}
  return 0;
}
