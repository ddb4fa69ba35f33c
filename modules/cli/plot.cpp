// lathe plot: the curves of several training runs on one page.
#include <fmt/core.h>

#include <memory>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "formats/atomic_file.h"
#include "train/report.h"

namespace lathe {
namespace {

struct PlotOptions {
  std::vector<std::string> folders;
  std::string output = "plot.html";
};

void run_plot(const PlotOptions& o) {
  std::vector<TrainingRun> runs;
  for (const std::string& folder : o.folders) {
    check_not_input(o.output, {folder + "/metrics.jsonl", folder + "/samples.jsonl", folder + "/recipe.yaml"});
    runs.push_back(read_training_run(folder));
  }
  AtomicFile file(o.output);
  file.write(comparison_page(runs));
  file.commit();
  const std::vector<std::string> names = run_names(runs);
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunFigures f = figures_of(runs[i]);
    fmt::print("{}: {} steps, training loss {:.4f}", names[i], f.steps, f.train_loss);
    if (f.best_step > 0) fmt::print(", best validation loss {:.4f} at step {}", f.best_validation_loss, f.best_step);
    fmt::print("\n");
  }
  fmt::print(stderr, "lathe: wrote {}\n", o.output);
}

}  // namespace

void add_plot(CommandLine& app) {
  const auto o = std::make_shared<PlotOptions>();
  const Command command = app.add("plot", "draw the curves of training runs on one page");
  command.option("DIR", o->folders, "what lathe train --output named; several are compared").required();
  command.output("--output", o->output, "the page, HTML").shows_default();
  command.example("Example: lathe plot runs/small runs/wide --output widths.html");
  command.run([o] { run_plot(*o); });
}

}  // namespace lathe
