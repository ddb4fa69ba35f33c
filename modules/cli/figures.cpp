#include "cli/figures.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

std::string shown(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_number_float() ? fmt::format("{:.6g}", value.get<double>()) : value.dump();
}

void put(Json& figures, const std::string& name, const Estimate& e) {
  figures[name] = e.value;
  figures[name + "_stderr"] = e.standard_error;
}

Json comparison_figures(const PerplexityReport::Comparison& c) {
  Json figures;
  put(figures, "perplexity", c.perplexity);
  put(figures, "kl_divergence", c.divergence);
  figures["kl_divergence_median"] = c.median;
  figures["kl_divergence_90_percent"] = c.percentile_90;
  figures["kl_divergence_99_percent"] = c.percentile_99;
  figures["kl_divergence_max"] = c.maximum;
  put(figures, "same_top_token", c.same_top);
  return figures;
}

}  // namespace

Json figures_of(const PerplexityReport& report) {
  Json figures = {{"windows", report.windows},
                  {"windows_in_text", report.windows_in_text},
                  {"tokens_counted", report.tokens_counted},
                  {"interrupted", report.interrupted}};
  put(figures, "negative_log_likelihood", report.negative_log_likelihood);
  put(figures, "perplexity", report.perplexity);
  if (report.comparison) figures["compare_with"] = comparison_figures(*report.comparison);
  return figures;
}

void print_figures(const Json& figures, const std::string& prefix) {
  for (const auto& [key, value] : figures.items()) {
    const std::string error = key + "_stderr";
    if (value.is_object())
      print_figures(value, prefix + key + ".");
    else if (figures.contains(error))
      fmt::print("{:38} {} +/- {:.2g}\n", prefix + key, shown(value), figures[error].get<double>());
    else if (!key.ends_with("_stderr"))
      fmt::print("{:38} {}\n", prefix + key, shown(value));
  }
}

}  // namespace lathe
