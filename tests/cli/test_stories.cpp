// The repository's own model, examples/stories: what training left in it reaches whoever loads it.
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

using namespace lathe::test;

std::string stories() { return (lathe::test::source_dir() / "examples" / "stories").string(); }

int count(const std::string& text, const std::string& word) {
  int found = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("the model of stories stays with its hero and with what was wanted") {
  const CommandResult result =
      run_lathe({"generate", "--model", stories(), "--dtype", "float32", "--prompt",
                 "Once there was a brave fox named Ada. Ada lived in the forest. One day the sun was shining, and Ada "
                 "wanted to find a golden key.",
                 "--max-new-tokens", "100"});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  // A name among twelve and a thing among eight: by chance they would not come back.
  CHECK(count(result.standard_output, "Ada") >= 3);
  CHECK(count(result.standard_output, "golden key") >= 2);
  CHECK(count(result.standard_output, "silver bell") == 0);
}

TEST_CASE("trained on from a GGUF file, it keeps the vocabulary that only such a file holds") {
  const TemporaryDirectory folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  REQUIRE(run_lathe({"convert", "--model", stories(), "--output", path("stories.gguf")}).exit_code == 0);
  write_file(path("text.txt"),
             std::string(20, '\n') + "Ada wanted to find a golden key. Ada wanted to find a golden key.");
  write_file(path("recipe.yaml"), "model: {checkpoint: " + path("stories.gguf") + "}\ndata: {train: " +
                                      path("text.txt") + "}\ntraining: {context: 8, batch_size: 1, steps: 1}\n");
  const CommandResult result = run_lathe({"train", "--config", path("recipe.yaml"), "--output", path("run")});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  const CommandResult text = run_lathe({"generate", "--model", path("run/model.gguf"), "--prompt",
                                        "Once there was a brave fox named Ada.", "--max-new-tokens", "4"});
  INFO(text.standard_error);
  CHECK(text.exit_code == 0);
  CHECK(count(text.standard_output, "Ada") == 1);
}

TEST_CASE("the model of stories knows its grammar: half a nat a token, where a fresh one has 6.2") {
  const TemporaryDirectory folder;
  const std::string text = (folder.path() / "story.txt").string();
  write_file(
      text,
      "Once there was a shy duck named Ben. Ben lived in the garden. One day it was raining, and Ben wanted to find a "
      "blue kite. On the way Ben met Rosa the owl. Ben said, \"Have you seen a blue kite?\" \"No, but I will help you "
      "to look.\" said Rosa. Together they went to the hill.");
  const CommandResult result = run_lathe({"perplexity", "--model", stories(), "--text-file", text, "--json"});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  CHECK(nlohmann::json::parse(result.standard_output)["perplexity"].get<double>() < 2.0);
}
