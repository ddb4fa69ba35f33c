// lathe plot as a command, and the bar of a training run.
#include "cli/train_progress.h"
#include "tests/catch.h"
#include "tests/support.h"

namespace {

using Catch::Matchers::ContainsSubstring;
using namespace lathe;
using namespace lathe::test;

std::string make_run(const TemporaryDirectory& root, const std::string& name, const std::string& rate) {
  const std::filesystem::path folder = root.path() / name;
  std::filesystem::create_directory(folder);
  write_file(folder / "metrics.jsonl", R"({"step": 1, "loss": 2.5, "learning_rate": )" + rate +
                                           R"(, "validation_loss": 2.75})"
                                           "\n");
  write_file(folder / "recipe.yaml", "optimizer: {learning_rate: " + rate + "}\n");
  return folder.string();
}

}  // namespace

TEST_CASE("plot: several runs on one page") {
  const TemporaryDirectory root;
  const std::string slow = make_run(root, "slow", "0.001"), fast = make_run(root, "fast", "0.01");
  const std::string page = (root.path() / "both.html").string();
  const CommandResult result = run_lathe({"plot", slow, fast, "--output", page});
  INFO(result.standard_error);
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.standard_output,
             ContainsSubstring("slow: 1 steps, training loss 2.5000, best validation loss 2.7500"));
  CHECK_THAT(result.standard_error, ContainsSubstring("wrote " + page));
  CHECK_THAT(read_file(page),
             ContainsSubstring("<tr><td>optimizer.learning_rate</td><td>0.001</td><td>0.01</td></tr>"));
}

TEST_CASE("plot: nothing that is read is written over, and what is missing is named") {
  const TemporaryDirectory root;
  const std::string run = make_run(root, "run", "0.001"), metrics = run + "/metrics.jsonl", before = read_file(metrics);
  const CommandResult over = run_lathe({"plot", run, "--output", metrics});
  CHECK(over.exit_code == 1);
  CHECK_THAT(over.standard_error, ContainsSubstring("lathe: error: write: "));
  CHECK(read_file(metrics) == before);
  const std::string page = (root.path() / "page.html").string();
  const CommandResult missing = run_lathe({"plot", run, run + "2", "--output", page});
  CHECK(missing.exit_code == 1);
  CHECK_THAT(missing.standard_error, ContainsSubstring(run + "2 is no folder"));
  CHECK(!std::filesystem::exists(page));
  CHECK(run_lathe({"plot"}).exit_code == 2);
}

TEST_CASE("train_progress: the bar takes the room that there is") {
  const StepLine line{500, 1.53214, 0.523, 1.25e-3, 31234};
  CHECK(training_bar(line, 2000, 161, 140) ==
        " 500/2000 [=======                       ]  loss 1.5321   2 min 41 s left  31.23k tokens/s  lr 1.25e-3  "
        "gradient 0.523 ");
  // 55 columns less 11 before the bar and 32 behind it; the speed would take 17 more than are there.
  CHECK(training_bar(line, 2000, 161, 56) == " 500/2000 [===         ]  loss 1.5321   2 min 41 s left");
  CHECK(training_bar(line, 2000, 161, 20) == " 500/2000");
  for (int columns = 0; columns < 200; ++columns)
    CHECK(training_bar(line, 2000, 161, columns).size() < static_cast<size_t>(std::max(columns, 1)));
  CHECK_THAT(training_bar({2000, 1, 1, 1, 1}, 2000, 0, 200), ContainsSubstring("[==============================]"));
}

TEST_CASE("train_progress: the line where there is no terminal") {
  CHECK(training_line({40, 3.14159, 0.5, 1.2e-3, 31000}, 2000, 303) ==
        "step 40 of 2000: loss 3.1416, gradient norm 0.5, learning rate 1.2e-3, 31k tokens/s, 5 min 3 s left");
}
