#include "train/metrics_log.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/atomic_file.h"

namespace lathe {

namespace {

using Json = nlohmann::ordered_json;

void keep_lines_until(const std::string& path, int64_t step) {
  std::ifstream file(path);
  if (!file) return;
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_object() && json.contains("step") && json["step"].is_number_integer() && json["step"] <= step)
      kept += line + "\n";
  }
  AtomicFile whole(path);
  whole.write(kept);
  whole.commit();
}

void append_line(const std::string& path, const Json& line) {
  const std::string text = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::FILE* file = std::fopen(path.c_str(), "ab");
  const bool written = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int error = errno;
  if (file == nullptr || std::fclose(file) != 0 || !written)
    throw Error(fmt::format("write: cannot write {}: {}", path, std::strerror(written ? errno : error)));
}

}  // namespace

void MetricsLog::keep_until(int64_t step) const {
  keep_lines_until(metrics_, step);
  keep_lines_until(samples_, step);
}

void MetricsLog::write(int64_t step, const std::vector<Sample>& samples) const {
  for (const Sample& s : samples) append_line(samples_, {{"step", step}, {"prompt", s.prompt}, {"text", s.text}});
}

void MetricsLog::write(const TrainingStep& step, const Clock& clock,
                       const std::optional<Evaluation>& evaluation) const {
  // JSON has no infinities and no NaN.
  const auto number = [](double x) { return std::isfinite(x) ? Json(x) : Json(fmt::format("{}", x)); };
  Json line = {{"step", step.number},
               {"loss", number(step.loss)},
               {"gradient_norm", number(step.gradient_norm)},
               {"learning_rate", step.learning_rate},
               {"tokens", clock.tokens},
               {"targets", step.targets},
               {"tokens_per_second", clock.tokens_per_second},
               {"seconds", clock.seconds}};
  if (step.router_balance != 0.0) line["router_balance"] = number(step.router_balance);
  if (const auto& p = step.preference) line.update({{"margin", number(p->margin)}, {"accuracy", p->accuracy}});
  if (const auto& r = step.update_ratios)
    line["update_ratio"] = {{"matrices", r->matrices}, {"tables", r->tables}, {"others", r->others}};
  if (!step.skipped.empty()) line.update({{"skipped", true}, {"reason", step.skipped}});
  if (evaluation) {
    line["validation_loss"] = evaluation->loss;
    if (evaluation->bits_per_byte > 0.0) line["validation_bits_per_byte"] = evaluation->bits_per_byte;
    if (const auto& p = evaluation->preference)
      line.update({{"validation_margin", number(p->margin)}, {"validation_accuracy", p->accuracy}});
  }
  append_line(metrics_, line);
}

}  // namespace lathe
