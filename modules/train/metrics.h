// What a training run wrote down of itself, as its report and `lathe plot` read it back.
#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lathe {

inline constexpr double kNotLogged = std::numeric_limits<double>::quiet_NaN();

// A line of metrics.jsonl; what it does not say, or is no finite number, is kNotLogged.
struct LoggedStep {
  double step = 0;                    // from 1
  double loss = kNotLogged;           // nats a target
  double gradient_norm = kNotLogged;  // before clipping
  double learning_rate = kNotLogged;
  double tokens = kNotLogged;  // targets so far
  double tokens_per_second = kNotLogged;
  double seconds = kNotLogged;  // of the run so far
  double validation_loss = kNotLogged, validation_bits_per_byte = kNotLogged;
  // Norm of the step's update over the norm of the weights.
  double matrices_ratio = kNotLogged, tables_ratio = kNotLogged, others_ratio = kNotLogged;
  std::optional<std::string> skipped;  // why the step was left out
};

// A line of samples.jsonl: what the model wrote behind the prompt after a step.
struct TrainingSample {
  double step = 0;
  std::string prompt, text;
};

struct TrainingRun {
  std::string folder;
  std::vector<LoggedStep> steps;   // in their order; several lines may speak of one step
  bool seconds_estimated = false;  // no line says the time: made from the tokens and their speed
  std::vector<TrainingSample> samples;
  std::string recipe;  // the text of recipe.yaml
  // Its values in its order, each with its path: "optimizer.name". A list of scalars is one value.
  std::vector<std::pair<std::string, std::string>> recipe_values;

  // The value with this path; empty where there is none.
  std::string recipe_value(std::string_view path) const;
  // Its number; nothing where there is none.
  std::optional<double> recipe_number(std::string_view path) const;
};

// Reads metrics.jsonl, recipe.yaml and, where it is there, samples.jsonl. The last line of a run that was killed while
// it wrote is left out where it is not whole; keys that are not known are passed over. Throws Error naming the file,
// and the line of what is wrong.
TrainingRun read_training_run(const std::string& folder);

}  // namespace lathe
