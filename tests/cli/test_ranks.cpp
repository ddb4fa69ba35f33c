// Several processes that mpirun starts, to train or to share a model out: what they write, what ends them, what they
// say.
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

using Catch::Matchers::ContainsSubstring;
using namespace lathe::test;
namespace fs = std::filesystem;

// Why several processes cannot be started here; empty: they can.
std::string lacking() {
  if (kSanitized) return "MPI keeps memory that the sanitizer counts as lost";
  if (run_shell("command -v mpirun").exit_code != 0) return "needs mpirun";
  return run_shell("test -e \"$(dirname \"$LATHE\")/liblathe_mpi.so\"").exit_code == 0 ? "" : "needs a build with MPI";
}

struct RankFolder {
  TemporaryDirectory place;

  RankFolder() {
    std::string text;
    for (int i = 0; i < 400; ++i) text += "a cat sat on mat " + std::to_string(i % 7) + ".\n";
    write_file(path("text.txt"), text);
    write_file(path("recipe.yaml"),
               "model:\n  architecture: {architecture: LlamaForCausalLM, vocab_size: 32, hidden_size: 16,\n"
               "    intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 16}\n"
               "data: {train: " +
                   path("text.txt") +
                   ", tokenizer: character, validation: 0.2}\n"
                   "training: {steps: 6, context: 16, batch_size: 5, clip: 0.1}\noptimizer: {learning_rate: "
                   "0.01}\nschedule: {name: constant}\n"
                   "checkpoint: {every: 2}\nlogging: {every: 1, samples: 1}\nevaluation: {every: 3}\n");
  }
  std::string path(const std::string& name) const { return (place.path() / name).string(); }
  // `before` comes before the program in the command that each rank runs.
  CommandResult run(int ranks, const std::string& output, const std::string& more = {},
                    const std::string& before = {}) const {
    return run_shell(launch(ranks) + before + command(output, more));
  }
  static std::string launch(int ranks) {
    return ranks == 1 ? ""
                      : "mpirun --allow-run-as-root --oversubscribe --bind-to none -np " + std::to_string(ranks) + " ";
  }
  std::string command(const std::string& output, const std::string& more) const {
    return "\"$LATHE\" train --config " + path("recipe.yaml") + " --output " + path(output) + " " + more;
  }
  std::string weights(const std::string& output) const { return read_file(path(output + "/model/model.safetensors")); }
  // Starts two processes that would train for hours, and sends the second one a signal when steps are made.
  CommandResult run_and_signal(const std::string& output, const std::string& signal) const {
    return run_shell(
        "cd " + place.path().string() + "; " + launch(2) +
        "sh -c 'echo $$ >pid.$OMPI_COMM_WORLD_RANK; exec \"$@\"' - " +
        command(output, "--set training.steps=100000000 --set checkpoint.every=0 --set evaluation.every=0") +
        " & tries=0; while [ ! -s " + output +
        "/metrics.jsonl ] && [ $tries -lt 3000 ]; do sleep 0.1; tries=$((tries + 1)); done; kill -" + signal +
        " $(cat pid.1); wait $!");
  }
  std::vector<nlohmann::json> lines(const std::string& output) const {
    std::vector<nlohmann::json> all;
    std::istringstream text(read_file(path(output + "/metrics.jsonl")));
    for (std::string line; std::getline(text, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }
  // Loss, norm and validation loss of every line of metrics.jsonl.
  std::vector<double> figures(const std::string& output) const {
    std::vector<double> all;
    for (const nlohmann::json& line : lines(output))
      for (const char* key : {"loss", "gradient_norm", "validation_loss"})
        if (line.contains(key)) all.push_back(line[key].get<double>());
    return all;
  }
};

double worst_relative(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0.0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]) / std::abs(b[i]));
  return worst;
}

}  // namespace

TEST_CASE("two processes train the model of one, repeat bit for bit, and one writes and speaks") {
  if (const std::string why = lacking(); !why.empty()) return skip(why);
  const RankFolder folder;
  REQUIRE(folder.run(1, "one").exit_code == 0);
  const CommandResult two = folder.run(2, "two");
  INFO(two.standard_error);
  REQUIRE(two.exit_code == 0);
  REQUIRE(folder.run(2, "again").exit_code == 0);
  // Sums of f32 in another order.
  CHECK(worst_relative(folder.figures("two"), folder.figures("one")) < 1e-6);
  CHECK(folder.weights("two") == folder.weights("again"));
  CHECK(folder.figures("two") == folder.figures("again"));
  CHECK(two.standard_output.find("model ") == two.standard_output.rfind("model "));
  CHECK_THAT(two.standard_error, ContainsSubstring("parameters are trained"));
  CHECK(two.standard_error.find("are trained") == two.standard_error.rfind("are trained"));
}

TEST_CASE("a run goes on with another number of processes and ends as with one") {
  if (const std::string why = lacking(); !why.empty()) return skip(why);
  const RankFolder folder;
  REQUIRE(folder.run(1, "one").exit_code == 0);
  for (const auto& [ranks, until] : {std::pair{1, 2}, std::pair{2, 4}, std::pair{1, 6}}) {
    const CommandResult part = folder.run(ranks, "run", "--resume --set training.steps=" + std::to_string(until));
    INFO(part.standard_error);
    REQUIRE(part.exit_code == 0);
  }
  // The parts evaluated at their ends too.
  const auto losses = [](const std::vector<nlohmann::json>& lines) {
    std::vector<double> all;
    for (const auto& line : lines) all.push_back(line["loss"].get<double>());
    return all;
  };
  CHECK(worst_relative(losses(folder.lines("run")), losses(folder.lines("one"))) < 1e-6);
}

TEST_CASE("two processes that share the weights out train the model of one, and others go on with it") {
  if (const std::string why = lacking(); !why.empty()) return skip(why);
  const RankFolder folder;
  const std::string shared = "--set training.tensor_parallel=2 ";
  REQUIRE(folder.run(1, "one").exit_code == 0);
  const CommandResult two = folder.run(2, "two", shared);
  INFO(two.standard_error);
  REQUIRE(two.exit_code == 0);
  REQUIRE(folder.run(2, "again", shared).exit_code == 0);
  CHECK(worst_relative(folder.figures("two"), folder.figures("one")) < 1e-6);
  CHECK(folder.figures("two") == folder.figures("again"));
  CHECK(folder.weights("two") == folder.weights("again"));
  CHECK(folder.weights("two").size() == folder.weights("one").size());
  // The samples of six steps of a tiny model: of nearly the same weights the same tokens.
  CHECK(read_file(folder.path("two/samples.jsonl")) == read_file(folder.path("one/samples.jsonl")));
  for (const auto& [ranks, until, more] :
       {std::tuple{1, 2, std::string()}, std::tuple{2, 4, shared}, std::tuple{2, 6, std::string()}}) {
    const CommandResult part =
        folder.run(ranks, "run", more + "--resume --set training.steps=" + std::to_string(until));
    INFO(part.standard_error);
    REQUIRE(part.exit_code == 0);
  }
  CHECK(std::abs(folder.lines("run").back()["loss"].get<double>() / folder.lines("one").back()["loss"].get<double>() -
                 1.0) < 1e-6);
  CHECK_THAT(folder.run(1, "no", shared).standard_error,
             ContainsSubstring("training.tensor_parallel: expected 1 or the number of processes, 1, found 2"));
  CHECK_THAT(folder.run(2, "no", shared + "--set optimizer.name=muon").standard_error,
             ContainsSubstring("training.tensor_parallel: 2 does not go with optimizer.name: muon"));
}

TEST_CASE("a signal to one process ends all of them, with a checkpoint") {
  if (const std::string why = lacking(); !why.empty()) return skip(why);
  const RankFolder folder;
  const CommandResult stopped = folder.run_and_signal("run", "TERM");
  INFO(stopped.standard_error);
  CHECK(stopped.exit_code != 0);
  CHECK_THAT(stopped.standard_error,
             ContainsSubstring("rank 0 of 2 on") && ContainsSubstring("the checkpoint is written"));
  const fs::directory_iterator entries(folder.path("run/checkpoints"));
  REQUIRE(entries != fs::directory_iterator());
  const int steps = std::stoi(entries->path().filename().string().substr(5)) + 2;
  const CommandResult resumed = folder.run(2, "run", "--resume --set training.steps=" + std::to_string(steps));
  CHECK_THAT(resumed.standard_error, ContainsSubstring("goes on after step " + std::to_string(steps - 2)));
  CHECK(resumed.exit_code == 0);
}

TEST_CASE("a process that dies ends the others, and the launcher says which and where") {
  if (const std::string why = lacking(); !why.empty()) return skip(why);
  const RankFolder folder;
  const CommandResult killed = folder.run_and_signal("run", "KILL");
  CHECK(killed.exit_code != 0);
  CHECK_THAT(killed.standard_error,
             ContainsSubstring("rank 1") && ContainsSubstring("on node") && ContainsSubstring("signal 9"));
}

TEST_CASE("an error names its rank and ends the others") {
  if (const std::string why = lacking(); !why.empty()) return skip(why);
  const RankFolder folder;
  const auto once = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos && text.find(part) == text.rfind(part);
  };
  const CommandResult all = folder.run(2, "run", "--set data.train=none.txt");
  INFO(all.standard_error);
  CHECK(all.exit_code != 0);
  CHECK(once(all.standard_error, "rank 0 of 2 on"));
  CHECK_THAT(all.standard_error, ContainsSubstring("rank 0 of 2 on") && ContainsSubstring("none.txt"));
  const CommandResult second =
      folder.run(2, "other", "", "sh -c 'test $OMPI_COMM_WORLD_RANK = 0 || export LATHE_THREADS=none; exec \"$@\"' - ");
  INFO(second.standard_error);
  CHECK(second.exit_code != 0);
  CHECK(once(second.standard_error, "lathe: error: "));
  CHECK_THAT(second.standard_error,
             ContainsSubstring("rank 1 of 2 on") && ContainsSubstring("LATHE_THREADS is 'none'"));
  // As srun does where it brings no process manager that MPI knows.
  const CommandResult lost = run_shell("SLURM_STEP_NUM_TASKS=2 \"$LATHE\" train --config " +
                                       folder.path("recipe.yaml") + " --output " + folder.path("lost"));
  CHECK(lost.exit_code == 1);
  CHECK_THAT(lost.standard_error, ContainsSubstring("srun started 2 processes that cannot find each other"));
}

TEST_CASE("two processes share a model out: one's greedy text and logits, and what cannot be shared out is refused") {
  if (const std::string why = lacking(); !why.empty()) return skip(why);
  const GoldenLlama golden;
  // A character for each of its 61 tokens, none of which must be escaped.
  golden.write_characters("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,?!0123");
  const std::string model = " --dtype float32 --model " + golden.folder.path().string();
  const auto generated = [&](int ranks, const std::string& more) {
    return run_shell("printf 'a cat sat' | " + RankFolder::launch(ranks) + "\"$LATHE\" generate --max-new-tokens 20 " +
                     more + model);
  };
  for (const std::string more : {"--greedy", "--temperature 1 --seed 3", "--greedy --speculate ngram --no-stream"}) {
    const CommandResult one = generated(1, more), two = generated(2, more);
    INFO(two.standard_error);
    REQUIRE(one.exit_code == 0);
    CHECK(two.exit_code == 0);
    CHECK(two.standard_output == one.standard_output);
    CHECK_THAT(two.standard_error, ContainsSubstring("of each of 2 processes"));
    CHECK(two.standard_error.find("lathe: prompt") == two.standard_error.rfind("lathe: prompt"));
  }
  for (const int ranks : {1, 2}) {
    const CommandResult written =
        run_shell("cd " + golden.folder.path().string() + "; printf 3,1,4,1,5 | " + RankFolder::launch(ranks) +
                  "\"$LATHE\" logits --tokens - --output " + std::to_string(ranks) + ".npy" + model);
    INFO(written.standard_error);
    REQUIRE(written.exit_code == 0);
  }
  CHECK(read_file(golden.file("1.npy")) == read_file(golden.file("2.npy")));
  const CommandResult refused = run_shell(RankFolder::launch(2) + "\"$LATHE\" generate --tokens 1,2 --model " +
                                          (source_dir() / "tests/goldens/gemma").string());
  CHECK(refused.exit_code != 0);
  CHECK_THAT(refused.standard_error, ContainsSubstring("rank 0 of 2 on") && ContainsSubstring("1 key-value head of") &&
                                         ContainsSubstring("hint: start one process"));
}
