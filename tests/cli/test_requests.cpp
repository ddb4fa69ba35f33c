// Requests and conversations in JSON: what is none is named by file, line and key, and nothing is cut to fit.
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

using Catch::Matchers::ContainsSubstring;
using lathe::test::CommandResult;
using lathe::test::run_lathe;
using nlohmann::json;

// The golden Llama, 61 rows, with a tokenizer of five tokens.
struct BatchLlama : lathe::test::GoldenLlama {
  BatchLlama() {
    write_characters("abcd ");
    write("tokenizer_config.json", R"({"chat_template": "{{ messages[0].content }}"})");
  }
  CommandResult batch(const char* command, const std::string& lines) const {
    std::vector<std::string> arguments = {command, "--model", folder.path().string(), "--batch",
                                          write("r.jsonl", lines)};
    if (std::string_view(command) == "generate")
      arguments.insert(arguments.end(), {"--max-new-tokens", "1", "--ignore-eos"});
    return run_lathe(arguments);
  }
  void refuses(const char* command, const std::string& lines, const std::string& why) const {
    const CommandResult result = batch(command, lines);
    INFO(lines << "\n" << result.standard_error);
    CHECK(result.exit_code == 1);
    CHECK(result.standard_error.find("lathe: error: ") == result.standard_error.rfind("lathe: error: "));
    CHECK_THAT(result.standard_error, ContainsSubstring("r.jsonl: line " + why));
  }
};

}  // namespace

TEST_CASE("requests: numbers that are no integers, or too large, are refused by their key") {
  const BatchLlama model;
  const auto refuses = [&](const std::string& setting, const std::string& why) {
    model.refuses("generate", "\r\n{\"prompt\": \"a\", " + setting + "}\n", "2: " + why);
  };
  refuses(R"("max_new_tokens": 3.0)", "max_new_tokens: expected an integer from 1 to 1099511627776, found 3.0");
  refuses(R"("max-new-tokens": 0)", "'max-new-tokens': expected an integer from 1");
  refuses(R"("num_sequences": 4294967297000000)", "num_sequences: expected an integer");
  refuses(R"("logprobs": true)", "logprobs: expected an integer");
  refuses(R"("logprobs": -1)", "logprobs: expected an integer from 0");
  refuses(R"("top_k": 1e1)", "top_k: expected an integer");
  refuses(R"("seed": -3)", "seed: expected an integer from 0 to 2^64 - 1, found -3");
  refuses(R"("seed": 18446744073709551616)", "seed: expected an integer from 0 to 2^64 - 1");
  refuses(R"("temperature": "0.7")", "temperature: expected a number, found '0.7'");
  refuses(R"("min_p": false)", "min_p: expected a number, found false");
  refuses(R"("greedy": 1)", "greedy: expected true or false, found 1");
  refuses(R"("stop": ["a", 5])", "stop[1]: expected a string, found 5");
  refuses(R"("stop": {})", "stop: expected a string or a list of strings, found an object");
  refuses(R"("colour": null)", "unknown key 'colour'");
  refuses(R"("top_p": 1e999)", "a number is beyond the range of float64");
  refuses(R"("top_p": 1, "top_p": 1)", "the key 'top_p' appears twice in one object");
}

TEST_CASE("requests: null is the same as absent, ends of lines may be CRLF") {
  const BatchLlama model;
  const CommandResult result = model.batch(
      "generate",
      "\xEF\xBB\xBF{\"prompt\": \"ab\", \"messages\": null, \"seed\": null, \"stop\": null, \"top_k\": null}\r\n"
      "  \r\n{\"messages\": [{\"role\": \"user\", \"content\": \"abc\", \"name\": null}]}\r\n");
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  const size_t end = result.standard_output.find('\n');
  CHECK(json::parse(result.standard_output.substr(0, end))["prompt_tokens"] == 2);
  CHECK(json::parse(result.standard_output.substr(end))["prompt_tokens"] == 3);
}

TEST_CASE("requests: what is no request, no prompt or no conversation is named with its line") {
  const BatchLlama model;
  const auto refuses = [&](const std::string& line, const std::string& why) {
    model.refuses("generate", "{\"tokens\": [1]}\n" + line + "\n", "2: " + why);
  };
  refuses("[1]", "expected an object, found an array");
  refuses("{}", "expected one of prompt, messages and tokens, found 0");
  refuses(R"({"prompt": "a", "tokens": [1]})", "expected one of prompt, messages and tokens, found 2");
  refuses(R"({"prompt": ["a"]})", "prompt: expected a string, found an array");
  refuses(R"({"tokens": "1,2"})", "tokens: expected an array, found '1,2'");
  refuses(R"({"tokens": [1, 2.5]})", "tokens[1]: expected an integer from 0 to 2147483647, found 2.5");
  refuses(R"({"tokens": [-1]})", "tokens[0]: expected an integer from 0");
  refuses(R"({"tokens": [1, 61]})", "engine: token 1 of the prompt is 61, the vocabulary has 61 tokens");
  refuses(R"({"tokens": []})", "engine: the prompt has no token");
  refuses(R"({"prompt": "a", "top_p": 7})", "sampl");
  refuses(R"({"messages": []})", "messages: expected at least one message");
  refuses(R"({"messages": [{"role": 1}]})", "messages[0].role: expected a string, found 1");
  refuses("{\"prompt\": \"a\"", "parse error at column 15: the text ends too early");
}

TEST_CASE("tokenize and detokenize name the line that is no text or no ids") {
  const BatchLlama model;
  model.refuses("tokenize", "\"a\"\n\n[\"a\"]\n", "3: expected a string, found an array");
  model.refuses("tokenize", "\"\xFF\"\n", "1: parse error at column 2");
  model.refuses("detokenize", "[1]\n[0, 4294967296]\n", "2[1]: expected an integer from 0 to 2147483647");
  model.refuses("detokenize", "[false]\n", "1[0]: expected an integer");
  model.refuses("detokenize", "{}\n", "1: expected an array, found an object");
}

// The reference's decode gives nothing for an id that no token has.
TEST_CASE("ids of rows beyond the tokenizer are decoded to nothing, ids beyond the model refused") {
  const BatchLlama model;
  const auto detokenize = [&](const std::string& tokens) {
    return run_lathe({"detokenize", "--model", model.folder.path().string(), "--tokens", tokens});
  };
  CHECK(detokenize("0,60,3,5").standard_output == "ad");
  CHECK(model.batch("detokenize", "[60]\n[1,17,2]\n").standard_output == "\"\"\n\"bc\"\n");
  const CommandResult beyond = detokenize("0,61");
  CHECK(beyond.exit_code == 1);
  CHECK_THAT(beyond.standard_error, ContainsSubstring("id 61 at position 1 is outside the vocabulary [0, 61)"));
  const CommandResult file =
      run_lathe({"detokenize", "--tokenizer", (model.folder.path() / "tokenizer.json").string(), "--tokens", "5"});
  CHECK_THAT(file.standard_error, ContainsSubstring("[0, 5)"));
  // What the model gives is shown, whatever rows it takes.
  const CommandResult answer =
      run_lathe({"generate", "--model", model.folder.path().string(), "--tokens", "60,7", "--greedy", "--ignore-eos",
                 "--max-new-tokens", "12", "--json", "--logprobs", "3", "--stop", "zz"});
  INFO(answer.standard_error);
  REQUIRE(answer.exit_code == 0);
  const json result = json::parse(answer.standard_output);
  std::string ids, text;
  for (const int id : result["tokens"]) {
    ids += (ids.empty() ? "" : ",") + std::to_string(id);
    text += id < 5 ? "abcd "[id] : '\0';
  }
  std::erase(text, '\0');
  CHECK(result["tokens"].size() == 12);
  CHECK(result["text"] == text);
  CHECK(detokenize(ids).standard_output == text);
}

TEST_CASE("render-chat names what is no conversation") {
  const BatchLlama model;
  const auto refused = [&](const std::string& messages, const std::string& tools) {
    const CommandResult result = run_lathe({"render-chat", "--model", model.folder.path().string(), "--messages",
                                            model.write("m.json", messages), "--tools", model.write("t.json", tools)});
    CHECK(result.exit_code == 1);
    CHECK(result.standard_output.empty());
    return result.standard_error;
  };
  CHECK_THAT(refused(R"({"messages": []})", "null"),
             ContainsSubstring("m.json: messages: expected a list of messages"));
  CHECK_THAT(refused(R"([{"role": "user", "content": true}])", "null"), ContainsSubstring("messages[0].content"));
  CHECK_THAT(refused(R"([{"role": "user", "content": "a"}])", R"([{}, "f"])"),
             ContainsSubstring("t.json: tools[1]: expected an object"));
  CHECK_THAT(refused("[{]", "null"), ContainsSubstring("m.json: parse error at column 3: unexpected ']'"));
}
