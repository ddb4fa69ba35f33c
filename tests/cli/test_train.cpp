// lathe train as a command: what lies in its folder, wrong input, and runs that are ended at any moment.
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

using Catch::Matchers::ContainsSubstring;
using namespace lathe::test;
namespace fs = std::filesystem;

// A folder with a text and a recipe that trains a model of 2 k parameters on it: 6 steps, a checkpoint every 2.
struct RunFolder {
  TemporaryDirectory place;

  RunFolder() {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "a cat sat on mat " + std::to_string(i % 7) + ".\n";
    write_file(place.path() / "text.txt", text);
    write_file(place.path() / "recipe.yaml",
               "model:\n  architecture: {architecture: LlamaForCausalLM, vocab_size: 32, hidden_size: 16,\n"
               "    intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 16}\n"
               "data: {train: " +
                   path("text.txt") +
                   ", tokenizer: character, validation: 0.2}\n"
                   "training: {steps: 6, context: 16, batch_size: 2}\noptimizer: {learning_rate: 0.01}\ncheckpoint: "
                   "{every: 2}\n"
                   "logging: {every: 1, samples: 1}\nevaluation: {every: 3}\n");
  }
  std::string path(const std::string& name) const { return (place.path() / name).string(); }
  std::vector<std::string> arguments(const std::string& output, std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"train", "--config", path("recipe.yaml"), "--output", path(output), "--threads", "1"});
    return more;
  }
  CommandResult run(const std::string& output, std::vector<std::string> more = {},
                    const std::vector<std::string>& environment = {}) const {
    return run_lathe(arguments(output, std::move(more)), {}, environment);
  }
  std::string weights(const std::string& output) const {
    return read_file(place.path() / output / "model" / "model.safetensors");
  }
  // The losses of metrics.jsonl, by line.
  std::vector<std::pair<int, double>> losses(const std::string& output) const {
    std::vector<std::pair<int, double>> list;
    std::istringstream lines(read_file(place.path() / output / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      list.emplace_back(json["step"].get<int>(), json["loss"].get<double>());
    }
    return list;
  }
};

}  // namespace

TEST_CASE("a run leaves a model that other commands take, its metrics, samples, recipe and report") {
  const RunFolder folder;
  const CommandResult result = folder.run("run");
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.standard_output, ContainsSubstring("run/model") && ContainsSubstring("run/report.html"));
  for (const char* name : {"recipe.yaml", "metrics.jsonl", "samples.jsonl", "report.html", "model/tokenizer.json"})
    CHECK(fs::exists(fs::path(folder.path("run")) / name));
  const auto losses = folder.losses("run");
  REQUIRE(losses.size() == 6);
  CHECK(losses.back().second < losses.front().second);
  const std::string resolved = read_file(fs::path(folder.path("run")) / "recipe.yaml");
  CHECK_THAT(resolved, ContainsSubstring("beta2: 0.95") && ContainsSubstring("model.layers.0.mlp.up_proj.weight") &&
                           !ContainsSubstring("decayed: [model.norm"));
  const CommandResult text =
      run_lathe({"generate", "--model", folder.path("run/model"), "--prompt", "a cat", "--max-new-tokens", "5"});
  INFO(text.standard_error);
  CHECK(text.exit_code == 0);
  // The same run from its own resolved recipe, bit for bit.
  fs::rename(fs::path(folder.path("run")) / "recipe.yaml", folder.path("recipe.yaml"));
  REQUIRE(folder.run("again").exit_code == 0);
  CHECK(folder.weights("again") == folder.weights("run"));
}

TEST_CASE("a step that is skipped says why and leaves its rows") {
  const RunFolder folder;
  const CommandResult result = folder.run("run", {"--set", "optimizer.learning_rate=1e30"});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.standard_error, ContainsSubstring("step 2 was skipped: the gradient of model.layers.0."));
  const std::string rows = read_file(fs::path(folder.path("run")) / "skipped" / "step-00000002.safetensors");
  CHECK_THAT(rows, ContainsSubstring("0.tokens") && ContainsSubstring("0.targets") && ContainsSubstring("reason"));
}

TEST_CASE("the average of weights is what a run exports") {
  const RunFolder folder;
  REQUIRE(folder.run("plain").exit_code == 0);
  REQUIRE(folder.run("averaged", {"--set", "optimizer.ema=0.9"}).exit_code == 0);
  const auto last = [&](const char* run, const char* file) {
    return read_file(fs::path(folder.path(run)) / "checkpoints" / "step-00000006" / file);
  };
  CHECK(last("averaged", "weights.safetensors") == last("plain", "weights.safetensors"));
  CHECK_THAT(last("averaged", "optimizer.safetensors"), ContainsSubstring("ema/model.norm.weight"));
  CHECK(folder.weights("averaged") != folder.weights("plain"));
}

TEST_CASE("whatever call fails while a checkpoint is written, the run goes on from the last good one") {
  if (kSanitized) return skip("a preloaded library comes before the sanitizer's");
  const RunFolder folder;
  const std::string library = std::string("LD_PRELOAD=") + LATHE_PRELOAD_FOLDER + "/fail_file_calls.so";
  const auto failing = [&](const std::string& output, long call, const std::string& error) {
    return folder.run(output, {},
                      {library, "FAIL_FOLDER=/checkpoints", "FAIL_CALL=" + std::to_string(call), "FAIL_ERRNO=" + error,
                       "FAIL_COUNT=" + folder.path("count")});
  };
  REQUIRE(failing("whole", 0, "kill").exit_code == 0);
  const long calls = std::stol(read_file(folder.place.path() / "count"));
  CHECK(calls > 60);  // three checkpoints
  const std::string errors[] = {std::to_string(ENOSPC), "kill", std::to_string(EIO)};
  for (long call = 1; call <= calls; ++call) {
    const std::string error = errors[call % 3], output = "run" + std::to_string(call);
    const CommandResult broken = failing(output, call, error);
    INFO("call " << call << " of " << calls << ", " << error << ": " << broken.standard_error);
    CHECK(broken.exit_code == (error == "kill" ? 128 + SIGKILL : 1));
    const CommandResult resumed = folder.run(output, {"--resume"});
    INFO(resumed.standard_error);
    REQUIRE(resumed.exit_code == 0);
    CHECK(folder.weights(output) == folder.weights("whole"));
    CHECK(folder.losses(output) == folder.losses("whole"));
    for (const auto& entry : fs::recursive_directory_iterator(folder.path(output)))
      CHECK(entry.path().extension() != ".partial");
    fs::remove_all(folder.path(output));
  }
}

TEST_CASE("a folder with a run is not begun anew, and goes on only as what it is") {
  const RunFolder folder;
  REQUIRE(folder.run("run").exit_code == 0);
  CHECK_THAT(folder.run("run").standard_error,
             ContainsSubstring("holds a run already") && ContainsSubstring("--resume"));
  CHECK_THAT(folder.run("run", {"--resume", "--set", "training.seed=3"}).standard_error,
             ContainsSubstring("another training.seed"));
  write_file(folder.place.path() / "text.txt", std::string(3000, 'a') + "b cdefg\n");
  CHECK_THAT(folder.run("run", {"--resume"}).standard_error, ContainsSubstring("the run was trained on data"));
}

TEST_CASE("data and recipes that cannot be trained on") {
  const RunFolder folder;
  const auto refusal = [&](std::vector<std::string> more) {
    const CommandResult result = folder.run("none", std::move(more));
    CHECK(result.exit_code == 1);
    fs::remove_all(folder.path("none"));
    return result.standard_error;
  };
  write_file(folder.place.path() / "empty.txt", "");
  write_file(folder.place.path() / "short.txt", "a cat");
  write_file(folder.place.path() / "wide.txt", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 and on");
  CHECK_THAT(refusal({"--set", "data.train=" + folder.path("none.txt")}), ContainsSubstring("none.txt"));
  CHECK_THAT(refusal({"--set", "data.train=" + folder.path("empty.txt")}), ContainsSubstring("empty.txt"));
  CHECK_THAT(refusal({"--set", "data.train=" + folder.path("short.txt"), "--set", "data.validation=0.0"}),
             ContainsSubstring("17"));  // the tokens that one window needs
  CHECK_THAT(refusal({"--set", "data.train=" + folder.path("wide.txt"), "--set", "data.validation=0.0"}),
             ContainsSubstring("vocab_size of at least"));
  CHECK_THAT(refusal({"--set", "training.context_=3"}), ContainsSubstring("did you mean training.context?"));
  CHECK_THAT(refusal({"--set", "model.config=x"}), ContainsSubstring("expected one of model.config"));
}
