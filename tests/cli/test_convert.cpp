// lathe convert, as a user calls it.
#include <filesystem>

#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

std::string gpt2() { return (source_dir() / "tests/goldens/gpt2").string(); }

}  // namespace

TEST_CASE("convert: writes a folder and a file, and says so") {
  const TemporaryDirectory root;
  const std::string out = root.path().string();
  const CommandResult folder = run_lathe(
      {"convert", "--model", gpt2(), "--output", out + "/folder", "--dtype", "bfloat16", "--shard-size", "20KB"});
  CHECK(folder.exit_code == 0);
  CHECK(folder.standard_output.empty());
  CHECK_THAT(folder.standard_error, ContainsSubstring("lathe: wrote " + out + "/folder"));
  CHECK(fs::exists(out + "/folder/model.safetensors.index.json"));
  CHECK_THAT(read_file(out + "/folder/config.json"), ContainsSubstring(R"("dtype": "bfloat16")"));
  const CommandResult file =
      run_lathe({"convert", "--model", out + "/folder", "--output", out + "/x.gguf", "--quantize", "q8_0"});
  CHECK(file.exit_code == 0);
  CHECK(run_lathe({"generate", "--model", out + "/x.gguf", "--tokens", "3,4", "--max-new-tokens", "2", "--json"})
            .exit_code == 0);
}

TEST_CASE("convert: a wrong command line and a wrong wish") {
  const TemporaryDirectory root;
  const std::string out = (root.path() / "x").string();
  const auto converted = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"convert", "--model", gpt2(), "--output", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_lathe(arguments);
  };
  CHECK(run_lathe({"convert", "--model", gpt2()}).exit_code == 2);
  CHECK(converted({"--dtype", "int8"}).exit_code == 2);
  CHECK(converted({"--quantize", "q9"}).exit_code == 2);
  CHECK(converted({"--shard-size", "some"}).exit_code == 2);
  const CommandResult blocks = converted({"--quantize", "q8_0"});
  CHECK(blocks.exit_code == 1);
  CHECK_THAT(blocks.standard_error, ContainsSubstring("block formats go into a .gguf file"));
  CHECK(fs::is_empty(root.path()));
}
