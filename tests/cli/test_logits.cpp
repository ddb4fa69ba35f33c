// lathe logits: where the ids come from and what the cache may be held in.
#include <filesystem>

#include "tests/catch.h"
#include "tests/support.h"

using Catch::Matchers::ContainsSubstring;
using lathe::test::CommandResult;
using lathe::test::read_file;
using lathe::test::run_lathe;

namespace {

struct Logits {
  lathe::test::TemporaryDirectory folder;
  std::string output = (folder.path() / "logits.npy").string();

  CommandResult run(const std::string& tokens, const std::string& cache, std::string_view input = {}) const {
    const auto model = lathe::test::source_dir() / "tests" / "goldens" / "llama_untied_gqa";
    return run_lathe(
        {"logits", "--model", model.string(), "--tokens", tokens, "--kv-cache-dtype", cache, "--output", output},
        input);
  }
};

}  // namespace

TEST_CASE("ids from standard input, line break and all, are those of the command line") {
  const Logits l;
  REQUIRE(l.run("3,4,5", "float32").exit_code == 0);
  const std::string expected = read_file(l.output);
  for (const char* input : {"3,4,5", "3, 4,\n5\r\n"}) {
    REQUIRE(l.run("-", "float32", input).exit_code == 0);
    CHECK(read_file(l.output) == expected);
  }
  for (const char* input : {"", "\n", "3,4,x\n"}) CHECK(l.run("-", "float32", input).exit_code != 0);
}

TEST_CASE("a cache of every dtype gives logits, of no other one an error that lists them") {
  const Logits l;
  for (const char* cache : {"float32", "float16", "bfloat16", "q8_0"}) CHECK(l.run("3,4,5", cache).exit_code == 0);
  const CommandResult wrong = l.run("3,4,5", "q4_0");
  CHECK(wrong.exit_code == 2);
  CHECK_THAT(wrong.standard_error, ContainsSubstring("float32, float16, bfloat16 or q8_0, found \"q4_0\""));
}
