// lathe evaluate: the share of multiple-choice tasks that a model gets right.
#include <fmt/core.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/figures.h"
#include "cli/json_file.h"
#include "cli/model_options.h"
#include "cli/profile_report.h"
#include "cli/progress.h"
#include "evaluate/multiple_choice.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

struct EvaluateOptions {
  ModelOptions model;
  std::string task, file;
  std::optional<int64_t> shots;
  int64_t limit = 0;
  bool json = false;
};

// How many tasks were right, by either measure.
struct Accuracy {
  int64_t count = 0, right = 0, right_normalised = 0;

  void add(const MultipleChoiceScore& s, int64_t label) {
    ++count;
    right += s.choice == label ? 1 : 0;
    right_normalised += s.normalised_choice == label ? 1 : 0;
  }
  double share(int64_t n) const { return static_cast<double>(n) / static_cast<double>(count); }
  // Of a share, from the sample deviation, as lm-evaluation-harness gives it; NaN (null in JSON) for a single task.
  double standard_error(int64_t n) const {
    return count > 1 ? std::sqrt(share(n) * (1.0 - share(n)) / static_cast<double>(count - 1)) : std::nan("");
  }
};

MultipleChoiceFile read_tasks(const EvaluateOptions& o) {
  if (o.task == "mmlu") return read_mmlu(o.file, o.shots);
  if (o.shots) throw UsageError("--shots: only mmlu has examples, found --task " + o.task);
  return read_hellaswag(o.file);
}

Json tasks_json(const MultipleChoiceFile& file, const std::vector<MultipleChoiceScore>& scores) {
  Json list = Json::array();
  for (size_t i = 0; i < scores.size(); ++i)
    list.push_back({{"line", file.tasks[i].line},
                    {"choice", scores[i].choice},
                    {"choice_norm", scores[i].normalised_choice},
                    {"label", file.tasks[i].label},
                    {"logprobs", scores[i].logprobs}});
  return list;
}

void run_evaluate(const EvaluateOptions& o) {
  const MultipleChoiceFile file = read_tasks(o);
  const LoadedModel loaded = o.model.load();
  const auto tokenizer = load_tokenizer(loaded.checkpoint);
  const size_t wanted = o.limit > 0 ? std::min(file.tasks.size(), static_cast<size_t>(o.limit)) : file.tasks.size();
  Accuracy accuracy;
  std::vector<MultipleChoiceScore> scores;
  ProfileReport profile(o.model);
  {
    Progress progress;
    scores = score_choices(
        *loaded.model, o.model.cache_dtype(loaded), *tokenizer, file, o.limit,
        o.model.context_limit(loaded.model->sizes), [&](size_t i, const MultipleChoiceScore& s) {
          accuracy.add(s, file.tasks[i].label);
          progress.show(fmt::format("task {} of {}: acc {:.4f}, acc_norm {:.4f}", i + 1, wanted,
                                    accuracy.share(accuracy.right), accuracy.share(accuracy.right_normalised)));
          return !Progress::interrupted();
        });
  }
  const bool interrupted = scores.size() < wanted;
  Json result = {{"task", o.task},
                 {"file", o.file},
                 {"shots", file.shots},
                 {"tokenizer", tokenizer->kind()},
                 {"dtype", o.model.dtype},
                 {"count", accuracy.count},
                 {"count_in_file", file.tasks.size()},
                 {"interrupted", interrupted},
                 {"acc", accuracy.share(accuracy.right)},
                 {"acc_stderr", accuracy.standard_error(accuracy.right)},
                 {"acc_norm", accuracy.share(accuracy.right_normalised)},
                 {"acc_norm_stderr", accuracy.standard_error(accuracy.right_normalised)},
                 {"acc_norm_by", "characters of the choice"}};
  if (o.json) {
    result["tasks"] = tasks_json(file, scores);
    fmt::print("{}\n", dump_line(result));
  } else {
    print_figures(result);
  }
  std::fflush(stdout);
  profile.finish();
  if (interrupted) throw Error("interrupted");
}

}  // namespace

void add_evaluate(CommandLine& app) {
  const auto o = std::make_shared<EvaluateOptions>();
  const Command command = app.add("evaluate", "the share of multiple-choice tasks that a model gets right");
  o->model.declare(command);
  command.option("--task", o->task, "hellaswag or mmlu: the form of the file").required().one_of({"hellaswag", "mmlu"});
  command.option("--file", o->file, "hellaswag: six lines a task; mmlu: SUBJECT_test.csv").required();
  command.option("--shots", o->shots, "mmlu: solved examples, from SUBJECT_dev.csv; default: 5 where it is there")
      .between(int64_t{0}, int64_t{1000});
  command.option("--limit", o->limit, "only the first N tasks").between(int64_t{1}, int64_t{1} << 40);
  command.flag("--json", o->json, "one JSON object, with every task's choice and log-probabilities");
  command.example(
      "Example: lathe evaluate --model models/SmolLM2-135M-Instruct.Q4_1.gguf --task hellaswag "
      "--file hellaswag_val_0_2000.txt --limit 200");
  command.run([o] { run_evaluate(*o); });
}

}  // namespace lathe
