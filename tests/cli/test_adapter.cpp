// Adapters on the command line: trained by a recipe, used with --adapter, merged by convert.
#include <cmath>
#include <cstring>
#include <filesystem>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

using Catch::Matchers::ContainsSubstring;
using namespace lathe;
using namespace lathe::test;
namespace fs = std::filesystem;

// The golden Llama with a recipe that trains an adapter of it on a text: 6 steps, a checkpoint every 3.
struct AdapterRun {
  GoldenLlama model;

  AdapterRun() {
    model.write_characters("abcdefghijklmnopqrstuvwxyz .,?!0123456");
    std::string text;
    for (int i = 0; i < 60; ++i) text += "a cat sat on mat " + std::to_string(i % 7) + ". ";
    model.write("text.txt", text);
    model.write("recipe.yaml",
                "model: {checkpoint: " + path() + "}\ndata: {train: " + path("text.txt") +
                    "}\ntraining: {steps: 6, context: 16, batch_size: 4}\n"
                    "optimizer: {learning_rate: 0.01}\nadapter: {rank: 4, targets: [q_proj, down_proj]}\n"
                    "checkpoint: {every: 3}\nlogging: {every: 1}\n");
  }
  std::string path(const std::string& name = {}) const { return (model.folder.path() / name).string(); }
  CommandResult train(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"train", "--config", path("recipe.yaml"), "--output", path("run"), "--threads", "1"});
    return run_lathe(more);
  }
  std::string logits(std::vector<std::string> more) const {
    more.insert(more.begin(), {"logits", "--tokens", "1,7,3,22", "--dtype", "float32", "--output", path("logits.npy")});
    const CommandResult result = run_lathe(more);
    INFO(result.standard_error);
    REQUIRE(result.exit_code == 0);
    return read_file(path("logits.npy"));
  }
};

// The largest difference of the f32 values behind the headers of two .npy files of one shape.
double difference(const std::string& a, const std::string& b) {
  REQUIRE(a.size() == b.size());
  const size_t bytes = 4 * 61 * sizeof(float);
  double worst = 0.0;
  for (size_t i = a.size() - bytes; i < a.size(); i += sizeof(float)) {
    float x = 0, y = 0;
    std::memcpy(&x, a.data() + i, sizeof x);
    std::memcpy(&y, b.data() + i, sizeof y);
    worst = std::max(worst, std::abs(double(x) - y));
  }
  return worst;
}

std::string line_with(const std::string& text, const std::string& part) {
  const size_t at = text.find(part);
  REQUIRE(at != text.npos);
  const size_t begin = text.rfind('\n', at) + 1;
  return text.substr(begin, text.find('\n', at) - begin);
}

}  // namespace

TEST_CASE("an adapter from training to use, merging and resuming") {
  const AdapterRun run;
  const CommandResult trained = run.train();
  INFO(trained.standard_error);
  REQUIRE(trained.exit_code == 0);
  // 2 layers: q_proj 4 (32 + 32), down_proj 4 (48 + 32).
  CHECK_THAT(trained.standard_error, ContainsSubstring("1152 of "));
  CHECK(fs::exists(run.path("run/model/adapter_config.json")));
  CHECK_FALSE(fs::exists(run.path("run/model/config.json")));
  const std::string adapter = read_file(run.path("run/model/adapter_model.safetensors"));

  const std::string base = run.logits({"--model", run.path()});
  const std::string changed = run.logits({"--model", run.path(), "--adapter", run.path("run/model")});
  CHECK(difference(base, changed) > 0.01);
  const CommandResult merged = run_lathe({"convert", "--model", run.path(), "--adapter", run.path("run/model"),
                                          "--merge", "--dtype", "float32", "--output", run.path("merged")});
  INFO(merged.standard_error);
  REQUIRE(merged.exit_code == 0);
  CHECK(difference(run.logits({"--model", run.path("merged")}), changed) < 1e-5);
  // bfloat16 unless told.
  REQUIRE(run_lathe({"convert", "--model", run.path(), "--adapter", run.path("run/model"), "--merge", "--output",
                     run.path("merged16")})
              .exit_code == 0);
  CHECK_THAT(read_file(run.path("merged16/config.json")), ContainsSubstring("\"bfloat16\""));
  const CommandResult blocks = run_lathe({"convert", "--model", run.path(), "--adapter", run.path("run/model"),
                                          "--merge", "--quantize", "q4_0", "--output", run.path("merged.gguf")});
  REQUIRE(blocks.exit_code == 0);
  CHECK_THAT(blocks.standard_error, ContainsSubstring("q4_0 keeps "));

  // The second half again: the same words about what is trained, the same bits.
  fs::remove_all(run.path("run/checkpoints/step-00000006"));
  fs::remove_all(run.path("run/model"));
  const CommandResult resumed = run.train({"--resume"});
  INFO(resumed.standard_error);
  REQUIRE(resumed.exit_code == 0);
  CHECK_THAT(resumed.standard_error, ContainsSubstring("goes on after step 3"));
  const std::string words = "parameters are trained";
  CHECK(line_with(resumed.standard_error, words) == line_with(trained.standard_error, words));
  CHECK(read_file(run.path("run/model/adapter_model.safetensors")) == adapter);
}

TEST_CASE("adapters that cannot be used") {
  const AdapterRun run;
  const auto refusal = [&](const std::vector<std::string>& arguments, int exit_code) {
    const CommandResult result = run_lathe(arguments);
    CHECK(result.exit_code == exit_code);
    return result.standard_error;
  };
  const std::string none = run.path("none"), out = run.path("out");
  CHECK_THAT(refusal({"logits", "--model", run.path(), "--adapter", none, "--tokens", "1", "--output", out}, 1),
             ContainsSubstring("none/adapter_config.json"));
  CHECK_THAT(refusal({"convert", "--model", run.path(), "--adapter", none, "--output", out}, 2),
             ContainsSubstring("--adapter and --merge go together"));
  CHECK_THAT(refusal({"convert", "--model", run.path(), "--merge", "--output", out}, 2),
             ContainsSubstring("--adapter and --merge go together"));
  CHECK_THAT(run.train({"--set", "adapter.targets=[qproj]"}).standard_error,
             ContainsSubstring("'qproj' names no module") && ContainsSubstring("did you mean q_proj?"));
  CHECK_THAT(run.train({"--set", "adapter.targets=[]"}).standard_error,
             ContainsSubstring("adapter.targets is missing"));
}
