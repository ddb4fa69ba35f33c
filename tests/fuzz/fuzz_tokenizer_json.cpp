// libFuzzer target: any bytes as a tokenizer.json. It loads, encodes and decodes, or is refused with lathe::Error.
#include "tests/fuzz/exercise_tokenizer.h"
#include "tests/fuzz/input_file.h"
#include "text/tokenizer/tokenizer_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const lathe::test::InputFile input(data, size);
  static const lathe::TokenizerConfig none("/nonexistent");
  try {
    lathe::test::exercise(lathe::load_tokenizer_json(input.path(), none));
  } catch (const lathe::Error&) {}
  return 0;
}
