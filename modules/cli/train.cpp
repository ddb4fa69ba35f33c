// lathe train: a model from a recipe and data.
#include <csignal>
#include <memory>
#include <optional>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/train_progress.h"
#include "tensor/communicator.h"
#include "tensor/threads.h"
#include "train/run.h"

namespace lathe {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

// The first Ctrl-C or SIGTERM ends the run with a checkpoint, the second ends the program.
void stop_gently(int signal) {
  stop_asked = 1;
  std::signal(signal, SIG_DFL);
}

struct TrainOptions {
  std::string config, output;
  std::vector<std::string> settings;
  bool resume = false, skip_bad_lines = false;
  int threads = 0;
  std::string device;
};

void run_train(const TrainOptions& o) {
  Communicator& ranks = world();
  set_threads(o.threads > 0 ? o.threads : default_threads(ranks));
  const Recipe recipe = read_recipe(o.config, o.settings);
  std::signal(SIGINT, stop_gently);
  std::signal(SIGTERM, stop_gently);
  RunCallbacks callbacks;
  std::optional<TrainProgress> progress;
  callbacks.on_note = [&](const std::string& line) {
    if (progress)
      progress->note(line);
    else
      fmt::print(stderr, "lathe: {}\n", line);
  };
  callbacks.on_start = [&](int64_t done, int64_t steps) { progress.emplace(steps, done); };
  callbacks.on_step = [&](const TrainingStep& step, double tokens_per_second) {
    progress->update({step.number, step.loss, step.gradient_norm, step.learning_rate, tokens_per_second});
  };
  callbacks.stop = [] { return stop_asked != 0; };
  const bool whole =
      run_training(recipe, o.output, {o.resume, o.skip_bad_lines, &ranks, chosen_device(o.device)}, callbacks);
  progress.reset();
  if (!whole) throw Error("interrupted; the checkpoint is written", "--resume goes on from it");
  if (ranks.is_first()) fmt::print("model  {0}/model\nreport {0}/report.html\n", o.output);
}

}  // namespace

void add_train(CommandLine& app) {
  const auto o = std::make_shared<TrainOptions>();
  const Command command = app.add("train", "train a model by a recipe");
  command.option("--config", o->config, "the recipe, a YAML file").required();
  command.option("--output", o->output, "folder of the run").required();
  command.option("--set", o->settings, "section.key=value in place of what the recipe says; may be repeated");
  command.flag("--resume", o->resume, "go on from the newest checkpoint of the folder");
  command.flag("--skip-bad-lines", o->skip_bad_lines, "leave out lines of data that cannot be read, and count them");
  command
      .option("--threads", o->threads,
              "threads of a process; default: the physical cores, shared by the processes on them")
      .between(1, 1024);
  declare_device(command, o->device);
  command.example("Example: lathe train --config configs/gpt2/shakespeare-char-small.yaml --output runs/shakespeare");
  command.run([o] { run_train(*o); });
}

}  // namespace lathe
