#include "cli/training_plan_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

std::string line(const char* what, size_t bytes, const std::string& equation) {
  return fmt::format("  {:12} {:10.1f} MB   {}\n", what, static_cast<double>(bytes) / 1e6, equation);
}

}  // namespace

TrainingPlanReport::TrainingPlanReport(const Recipe& recipe, size_t memory, size_t runtime)
    : recipe_(recipe), memory_(memory), runtime_(runtime), plan_(plan_training(recipe)) {
  // What the program itself takes differs by some 0.1 MB from one start to the next.
  constexpr size_t kRuntimeSpread = size_t{1} << 20;
  if (memory_ > 0 && total() > memory_)
    fitting_ = fitting_recipe(recipe, memory_ - std::min(memory_, runtime_ + kRuntimeSpread));
}

std::string TrainingPlanReport::suggestion() const {
  const TrainingRecipe& t = fitting_->training;
  return fmt::format("--set training.batch_size={} --set training.accumulation={} --set training.recompute={}",
                     t.batch_size, t.accumulation, t.recompute == TrainingRecipe::Recompute::block ? "block" : "none");
}

std::string TrainingPlanReport::verdict() const {
  if (memory_ == 0) return {};
  const double there = static_cast<double>(memory_) / 1e6;
  if (total() <= memory_) return fmt::format("\nfits in {:.1f} MB\n", there);
  if (!fitting_) return fmt::format("\ndoes not fit in {:.1f} MB, however its rows are cut\n", there);
  return fmt::format("\ndoes not fit in {:.1f} MB; this does, and trains the same:\n  {}\n", there, suggestion());
}

std::string TrainingPlanReport::text() const {
  const TrainingRecipe& t = recipe_.training;
  const double states = static_cast<double>(plan_.states) / static_cast<double>(plan_.weights);
  return fmt::format("{} parameters, {} of them trained; a step of {} x {} rows of {} tokens\n\nmemory\n",
                     plan_.parameters, plan_.trainable, t.accumulation, t.batch_size, t.context) +
         (plan_.data > 0 ? line("data", plan_.data, "ids of the files' tokens, mapped: an estimate for text")
                         : std::string()) +
         (plan_.frozen > 0 ? line("frozen", plan_.frozen, "the weights beside the adapter, as their file has them")
                           : std::string()) +
         line("weights", plan_.weights, "4 bytes a parameter that is trained") +
         line("gradients", plan_.gradients, "4 bytes a parameter that is trained") +
         line("optimizer", plan_.states, fmt::format("{:.1f} bytes a parameter that is trained", 4.0 * states)) +
         line("step", plan_.step, "what a micro-batch allocates: counted by running it without elements") +
         line("evaluation", plan_.evaluation, "the same without a backward pass; only one of the two is there") +
         line("runtime", runtime_, "the program, its libraries and scratch: measured in this process") +
         line("total", total(), "data, weights, gradients, states, runtime, and the larger of step and evaluation") +
         fmt::format("\nwork\n  {:12} {:10.4g} GFLOP  6 for each weight that multiplies, and 6 L T Hq D of attention\n",
                     "a token", static_cast<double>(plan_.operations_a_token) / 1e9) +
         fmt::format("  {:12} {:10.4g} GFLOP  {} tokens\n", "a step",
                     static_cast<double>(plan_.operations_a_token * plan_.tokens_a_step) / 1e9, plan_.tokens_a_step) +
         verdict();
}

Json TrainingPlanReport::json() const {
  Json json = {{"parameters", plan_.parameters},
               {"trainable_parameters", plan_.trainable},
               {"memory_bytes",
                {{"data", plan_.data},
                 {"frozen", plan_.frozen},
                 {"weights", plan_.weights},
                 {"gradients", plan_.gradients},
                 {"optimizer", plan_.states},
                 {"step", plan_.step},
                 {"evaluation", plan_.evaluation},
                 {"runtime", runtime_},
                 {"total", total()}}},
               {"operations_per_token", plan_.operations_a_token},
               {"tokens_per_step", plan_.tokens_a_step}};
  if (memory_ == 0) return json;
  json["limit"] = {{"bytes", memory_}, {"fits", total() <= memory_}};
  if (fitting_) json["limit"]["would_fit"] = suggestion();
  return json;
}

}  // namespace lathe
