// `lathe tokenize` and `lathe detokenize` as a user runs them: patterns, explanations, bytes that are not UTF-8.
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

using Catch::Matchers::ContainsSubstring;
using Json = nlohmann::json;
using lathe::test::CommandResult;
using lathe::test::run_lathe;
using lathe::test::write_file;

// The 256 bytes in base64 and two merges: "he" 256, " w" 257.
std::string ranks() {
  constexpr const char* kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string lines;
  for (unsigned byte = 0; byte < 256; ++byte)
    lines += std::string{kDigits[byte >> 2], kDigits[byte << 4 & 63], '=', '='} + " " + std::to_string(byte) + "\n";
  return lines + "aGU= 256\nIHc= 257\n";
}

struct Vocabulary {
  lathe::test::TemporaryDirectory folder;
  std::string path = (folder.path() / "x.tiktoken").string();

  Vocabulary() { write_file(path, ranks()); }
  CommandResult tokenize(std::vector<std::string> arguments, std::string_view input = {}) const {
    arguments.insert(arguments.begin(), {"tokenize", "--tokenizer", path, "--pattern", "[a-z]+| [a-z]+"});
    return run_lathe(arguments, input);
  }
  CommandResult detokenize(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"detokenize", "--tokenizer", path, "--pattern", "[a-z]+| [a-z]+"});
    return run_lathe(arguments);
  }
};

void check_refused(const CommandResult& result, int exit_code, const std::string& message) {
  INFO(result.standard_error);
  CHECK(result.exit_code == exit_code);
  CHECK(result.standard_output.empty());
  CHECK_THAT(result.standard_error, ContainsSubstring(message));
}

}  // namespace

TEST_CASE("a rank file is read with --pattern alone") {
  const Vocabulary vocabulary;
  const CommandResult result = vocabulary.tokenize({"--text", "he we"});
  CHECK(result.standard_output == "256,257,101\n");
  CHECK(result.standard_error.empty());
  const auto run = [&](const std::vector<std::string>& pattern) {
    std::vector<std::string> arguments = {"tokenize", "--tokenizer", vocabulary.path, "--text", "he"};
    arguments.insert(arguments.end(), pattern.begin(), pattern.end());
    return run_lathe(arguments);
  };
  check_refused(run({}), 1, "give --pattern gpt2, llama3, qwen or a regular expression");
  check_refused(run({"--pattern", "llama4"}), 1, "no pattern has the name 'llama4'");
  check_refused(run({"--pattern", "[a"}), 1, "regex: ");
  CHECK_THAT(run_lathe({"help", "tokenize"}).standard_output, ContainsSubstring("--pattern"));
}

TEST_CASE("--explain shows the steps; with --json the same as one object") {
  const Vocabulary vocabulary;
  const CommandResult text = vocabulary.tokenize({"--text", "he w\n", "--explain"});
  CHECK(text.exit_code == 0);
  CHECK_THAT(text.standard_output, ContainsSubstring("text         he\u00b7w\\n\n"));
  CHECK_THAT(text.standard_output, ContainsSubstring("pieces       he | \u0120w | \u010a\n"));
  CHECK_THAT(text.standard_output, ContainsSubstring("20 77"));

  const CommandResult result = vocabulary.tokenize({"--text", "xhe", "--explain", "--json"});
  const Json json = Json::parse(result.standard_output);
  CHECK(json["tokens"] == Json{'x', 256});
  CHECK(json["measure"] == "rank");
  const Json& piece = json["stretches"][0]["pieces"][0];
  CHECK(piece["text"] == "xhe");
  CHECK(piece["steps"].size() == 4);
  CHECK(piece["steps"][3] ==
        Json{{"step", "merge"}, {"left", "h"}, {"right", "e"}, {"text", "he"}, {"id", 256}, {"rank", 256}});
  CHECK(piece["tokens"][1] == Json{{"id", 256}, {"text", "he"}, {"bytes", "68 65"}});
  check_refused(vocabulary.tokenize({"--batch", "x.jsonl", "--explain"}), 2, "excludes");
}

TEST_CASE("text that is not UTF-8 is one error that names the first bad byte") {
  const Vocabulary vocabulary;
  const std::string path = (vocabulary.folder.path() / "text").string();
  write_file(path, "abc\xE2\x82");
  check_refused(vocabulary.tokenize({"--text-file", path}), 1, "offset 3");
  check_refused(vocabulary.tokenize({}, "\xFF"), 1, "offset 0");
}

TEST_CASE("detokenize shows broken bytes as U+FFFD, and gives them raw with --bytes") {
  const Vocabulary vocabulary;
  CHECK(vocabulary.detokenize({"--tokens", "97,226,130,256"}).standard_output == "a\ufffdhe");
  CHECK(vocabulary.detokenize({"--tokens", "97,226,130,256", "--bytes"}).standard_output == "a\xE2\x82he");
  CHECK(vocabulary.detokenize({"--tokens", "0,10,255", "--bytes"}).standard_output == std::string("\0\n\xFF", 3));
  const std::string path = (vocabulary.folder.path() / "ids.jsonl").string();
  write_file(path, "[97,195,169]\n[195]\n[]\n");
  CHECK(vocabulary.detokenize({"--batch", path}).standard_output == "\"a\u00e9\"\n\"\ufffd\"\n\"\"\n");
  write_file(path, "[97]\n[9999]\n");
  CHECK_THAT(vocabulary.detokenize({"--batch", path}).standard_error, ContainsSubstring("line 2: tokens: id 9999"));
}
