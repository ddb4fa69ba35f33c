// lathe perplexity and lathe evaluate as a user runs them, on a tiny random checkpoint with a tokenizer of characters.
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Json = nlohmann::json;

namespace {

// The golden Llama (61 tokens, 64 positions), its vocabulary the letters, the space and marks.
struct Model : GoldenLlama {
  Model() {
    const std::string characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,:()?!\n";
    Json vocabulary;
    for (size_t i = 0; i < characters.size(); ++i) vocabulary[std::string(1, characters[i])] = i;
    const Json file = {{"version", "1.0"},
                       {"added_tokens", Json::array()},
                       {"normalizer", nullptr},
                       {"pre_tokenizer", nullptr},
                       {"post_processor", nullptr},
                       {"decoder", nullptr},
                       {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array()}}}};
    write("tokenizer.json", file.dump());
  }
  CommandResult run(const std::string& command, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {command, "--model", folder.path().string()});
    return run_lathe(arguments);
  }
  // The JSON of a command that must succeed.
  Json json(const std::string& command, std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    const CommandResult result = run(command, std::move(arguments));
    INFO(result.standard_error);
    REQUIRE(result.exit_code == 0);
    return Json::parse(result.standard_output);
  }
};

void check_error(const CommandResult& result, const std::string& text, int exit_code = 1) {
  INFO(result.standard_error);
  CHECK(result.exit_code == exit_code);
  CHECK(result.standard_output.empty());
  CHECK_THAT(result.standard_error, ContainsSubstring("lathe: error: ") && ContainsSubstring(text));
}

}  // namespace

TEST_CASE("lathe perplexity states its protocol and figures") {
  const Model model;
  const std::string text = model.write("text.txt", std::string(100, 'a') + "the quick brown fox");  // 119 tokens
  const Json whole = model.json("perplexity", {"--text-file", text});
  CHECK(whole["protocol"] == "transformers");
  CHECK(whole["context"] == 64);  // the model's limit, which is below 512
  CHECK(whole["stride"] == 64);
  CHECK(whole["bos"] == "none");
  CHECK(whole["windows"] == 2);
  CHECK(whole["tokens_counted"] == 63 + 54);
  CHECK(whole["tokens_in_text"] == 119);
  CHECK(whole["perplexity"].get<double>() > 1.0);
  CHECK(whole["perplexity_stderr"].get<double>() > 0.0);
  CHECK_FALSE(whole.contains("compare_with"));

  const Json strided = model.json("perplexity", {"--text-file", text, "--context", "32", "--stride", "16"});
  CHECK(strided["tokens_counted"] == 118);
  const Json halves = model.json("perplexity", {"--text-file", text, "--context", "32", "--protocol", "llama.cpp"});
  CHECK(halves["tokens_counted"] == 3 * 15);
  const Json itself = model.json("perplexity", {"--text-file", text, "--compare-with", model.folder.path().string()});
  CHECK(itself["compare_with"]["kl_divergence"] == 0.0);
  CHECK(itself["compare_with"]["same_top_token"] == 1.0);
  CHECK(itself["compare_with"]["perplexity"] == itself["perplexity"]);

  const CommandResult lines = model.run("perplexity", {"--text-file", text, "--limit", "1"});
  CHECK_THAT(lines.standard_output, ContainsSubstring("perplexity ") && ContainsSubstring(" +/- "));
}

TEST_CASE("lathe perplexity refuses by name what it cannot measure") {
  const Model model, other;
  const std::string text = model.write("text.txt", std::string(100, 'a'));
  check_error(model.run("perplexity", {"--text-file", "/nowhere/text.txt"}), "/nowhere/text.txt");
  check_error(model.run("perplexity", {"--text-file", model.write("empty.txt", "")}), "the text has 0 tokens");
  check_error(model.run("perplexity", {"--text-file", model.write("short.txt", "a")}), "the text has 1 token,");
  check_error(model.run("perplexity", {"--text-file", model.write("bytes.txt", "caf\xff")}), "bytes.txt: encode: ");
  check_error(model.run("perplexity", {"--text-file", text, "--context", "32", "--stride", "33"}), "--stride", 2);
  check_error(model.run("perplexity", {"--text-file", text, "--context", "1"}), "--context", 2);
  check_error(model.run("perplexity", {"--text-file", text, "--protocol", "other"}), "--protocol", 2);
  check_error(model.run("perplexity", {"--text-file", text, "--limit", "0"}), "--limit", 2);
  check_error(model.run("perplexity", {}), "--text-file", 2);

  std::string tokenizer = read_file(other.folder.path() / "tokenizer.json");
  other.write("tokenizer.json", tokenizer.replace(tokenizer.find("\"Q\":"), 4, "\"%\":"));
  check_error(model.run("perplexity", {"--text-file", text, "--compare-with", other.folder.path().string()}),
              "token 42 is \"%\" in");
}

TEST_CASE("lathe evaluate prints accuracies and every task") {
  const Model model;
  const std::string file = model.write("h.txt", "He\n1\nruns.\nsits.\nis.\nhas.\nShe\n0\nsleeps.\nis.\nruns.\ngoes.\n");
  const Json result = model.json("evaluate", {"--task", "hellaswag", "--file", file});
  CHECK(result["count"] == 2);
  REQUIRE(result["tasks"].size() == 2);
  double right = 0.0;
  for (const Json& task : result["tasks"]) {
    const auto logprobs = task["logprobs"].get<std::vector<double>>();
    REQUIRE(logprobs.size() == 4);
    const auto best = std::max_element(logprobs.begin(), logprobs.end()) - logprobs.begin();
    CHECK(task["choice"] == best);
    right += task["choice"] == task["label"] ? 1.0 : 0.0;
  }
  CHECK(result["tasks"][1]["line"] == 7);
  CHECK(result["acc"] == right / 2);
  CHECK(model.json("evaluate", {"--task", "hellaswag", "--file", file, "--limit", "1"})["count"] == 1);
  const CommandResult lines = model.run("evaluate", {"--task", "hellaswag", "--file", file});
  CHECK_THAT(lines.standard_output, ContainsSubstring("acc_norm"));

  check_error(model.run("evaluate", {"--task", "hellaswag", "--file", model.write("b.txt", "He\n")}), "b.txt: line 1");
  check_error(model.run("evaluate", {"--task", "hellaswag", "--file", file, "--shots", "1"}), "--shots", 2);
  check_error(model.run("evaluate", {"--task", "other", "--file", file}), "--task", 2);
  check_error(model.run("evaluate", {"--task", "mmlu", "--file", "/nowhere/a_test.csv"}), "/nowhere/a_test.csv");
  const std::string questions = model.write("a_test.csv", "Why?,no,yes,so,never,B\n");
  check_error(model.run("evaluate", {"--task", "mmlu", "--file", questions}), "the context holds 64");
}
