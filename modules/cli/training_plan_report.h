// The plan of a training run for people and as JSON, and what would fit where it does not.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "train/training_plan.h"

namespace lathe {

class TrainingPlanReport {
 public:
  // `memory`: bytes that there are, 0: not asked; `runtime`: bytes that the program takes without a model.
  TrainingPlanReport(const Recipe& recipe, size_t memory, size_t runtime);
  nlohmann::ordered_json json() const;
  std::string text() const;

 private:
  size_t total() const { return plan_.peak() + runtime_; }
  std::string verdict() const;
  std::string suggestion() const;  // the settings that fit

  Recipe recipe_;
  size_t memory_, runtime_;
  TrainingPlan plan_;
  std::optional<Recipe> fitting_;  // where the plan exceeds the memory
};

}  // namespace lathe
