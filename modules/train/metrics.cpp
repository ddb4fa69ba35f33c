// See metrics.h.
#include "train/metrics.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "formats/json_node.h"
#include "formats/mapped_file.h"
#include "formats/strict_json.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

std::string read_whole(const std::string& path) {
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored) && fs::file_size(path, ignored) == 0) return {};  // nothing to map
  const auto file = MappedFile::open(path);
  return {reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
}

void for_each_logged_line(const std::string& path, const std::function<void(const OrderedJsonNode&)>& f) {
  std::string text = read_whole(path);
  const size_t last = text.rfind('\n') + 1;  // npos + 1 is 0
  if (!nlohmann::json::accept(text.substr(last))) text.resize(last);
  for_each_json_line(text, path, [&](const nlohmann::ordered_json& value, const std::string& where) {
    f(OrderedJsonNode(value, where, ": "));
  });
}

// JSON has no number for what is not finite: such a value is null or its name.
double number(const OrderedJsonNode& of, const char* name) {
  if (!of.has(name)) return kNotLogged;
  const OrderedJsonNode value = of.at(name);
  if (value.value().is_string())
    for (const char* not_finite : {"nan", "-nan", "inf", "-inf"})
      if (value.string() == not_finite) return kNotLogged;
  return value.number();
}

LoggedStep logged_step(const OrderedJsonNode& line) {
  LoggedStep s;
  s.step = static_cast<double>(line.at("step").integer(1));
  s.loss = number(line, "loss");
  s.gradient_norm = number(line, "gradient_norm");
  s.learning_rate = number(line, "learning_rate");
  s.tokens = number(line, "tokens");
  s.tokens_per_second = number(line, "tokens_per_second");
  s.seconds = number(line, "seconds");
  s.validation_loss = number(line, "validation_loss");
  s.validation_bits_per_byte = number(line, "validation_bits_per_byte");
  if (line.has("update_ratio")) {
    const OrderedJsonNode ratios = line.at("update_ratio");
    if (!ratios.value().is_object()) ratios.expected("an object");
    s.matrices_ratio = number(ratios, "matrices");
    s.tables_ratio = number(ratios, "tables");
    s.others_ratio = number(ratios, "others");
  }
  if (line.boolean_or("skipped", false)) s.skipped = line.string_or("reason", "");
  return s;
}

// Far more than a recipe has: aliases let a few lines of YAML stand for more than memory holds.
constexpr size_t kMostValues = 10'000, kMostBytes = size_t{4} << 20;
constexpr int kDeepest = 16;

class RecipeValues {
 public:
  explicit RecipeValues(TrainingRun& run) : run_(run) {}

  void add(const YAML::Node& node, const std::string& path, int depth = 0) {
    check(depth <= kDeepest, "recipe.yaml", "{}: nested deeper than {} levels", path, kDeepest);
    if (node.IsMap() && node.size() > 0) {
      for (const auto& item : node)
        add(item.second, (path.empty() ? "" : path + ".") + item.first.as<std::string>(), depth + 1);
      return;
    }
    std::string value = node.IsScalar() ? node.Scalar() : "";
    if (node.IsSequence()) {
      for (const YAML::Node& item : node) {
        check(item.IsScalar(), "recipe.yaml", "{}: expected a list of scalars", path);
        count(item.Scalar().size());
        value += (value.empty() ? "" : ", ") + item.Scalar();
      }
      value = "[" + value + "]";
    }
    count(path.size() + value.size());
    run_.recipe_values.emplace_back(path, value);
  }

 private:
  void count(size_t bytes) {
    bytes_ += bytes + 1;
    check(bytes_ <= kMostBytes && run_.recipe_values.size() < kMostValues, "recipe.yaml",
          "expected at most {} values of {} bytes together", kMostValues, kMostBytes);
  }
  TrainingRun& run_;
  size_t bytes_ = 0;
};

void read_recipe_values(const std::string& path, TrainingRun& run) {
  try {
    RecipeValues(run).add(YAML::Load(run.recipe), "");
  } catch (const YAML::Exception& e) {
    throw Error(fmt::format("{}:{}: {}", path, e.mark.line + 1, e.msg));
  }
}

void estimate_seconds(TrainingRun& run) {
  const auto says = [](const LoggedStep& s) { return std::isfinite(s.seconds); };
  if (std::any_of(run.steps.begin(), run.steps.end(), says)) return;
  run.seconds_estimated = true;
  double seconds = 0, tokens = 0;
  for (LoggedStep& s : run.steps) {
    if (!(s.tokens_per_second > 0) || !std::isfinite(s.tokens)) continue;
    seconds += (s.tokens - std::exchange(tokens, s.tokens)) / s.tokens_per_second;
    s.seconds = seconds;
  }
}

}  // namespace

std::string TrainingRun::recipe_value(std::string_view path) const {
  const auto named =
      std::find_if(recipe_values.begin(), recipe_values.end(), [&](const auto& item) { return item.first == path; });
  return named == recipe_values.end() ? "" : named->second;
}

std::optional<double> TrainingRun::recipe_number(std::string_view path) const {
  const std::string value = recipe_value(path);
  char* end = nullptr;
  const double number = std::strtod(value.c_str(), &end);
  return value.empty() || *end != '\0' ? std::nullopt : std::optional(number);
}

TrainingRun read_training_run(const std::string& folder) {
  std::error_code ignored;
  check(fs::is_directory(folder, ignored), "plot", "{} is no folder; expected what lathe train --output names", folder);
  TrainingRun run;
  run.folder = folder;
  for_each_logged_line(folder + "/metrics.jsonl", [&](const OrderedJsonNode& line) {
    run.steps.push_back(logged_step(line));
    const size_t n = run.steps.size();
    if (n > 1 && run.steps[n - 1].step < run.steps[n - 2].step)
      line.fail(fmt::format("step {} follows step {}", run.steps[n - 1].step, run.steps[n - 2].step));
  });
  estimate_seconds(run);
  const std::string samples = folder + "/samples.jsonl";
  if (fs::exists(samples, ignored))
    for_each_logged_line(samples, [&](const OrderedJsonNode& line) {
      run.samples.push_back(
          {static_cast<double>(line.at("step").integer(1)), line.string_or("prompt", ""), line.at("text").string()});
    });
  run.recipe = read_whole(folder + "/recipe.yaml");
  read_recipe_values(folder + "/recipe.yaml", run);
  return run;
}

}  // namespace lathe
