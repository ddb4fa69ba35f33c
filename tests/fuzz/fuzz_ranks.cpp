// libFuzzer target: any bytes as a vocabulary of ranks: tekken.json where they begin with a brace, else tiktoken's
// lines. It loads, encodes and decodes, or is refused with lathe::Error.
#include "tests/fuzz/exercise_tokenizer.h"
#include "tests/fuzz/input_file.h"
#include "text/tokenizer/tokenizer_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const lathe::test::InputFile input(data, size);
  static const lathe::TokenizerConfig none("/nonexistent");
  try {
    lathe::test::exercise(size > 0 && data[0] == '{' ? lathe::load_tekken(input.path(), none)
                                                     : lathe::load_tiktoken(input.path(), none, "gpt2"));
  } catch (const lathe::Error&) {}
  return 0;
}
