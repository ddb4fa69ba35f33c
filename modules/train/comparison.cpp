// See report.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "train/curve_drawing.h"
#include "train/report.h"
#include "train/report_page.h"
#include "train/shown_numbers.h"

namespace lathe {
namespace {

using Names = std::vector<std::string>;
using Runs = std::vector<TrainingRun>;

struct XAxis {
  const char *button, *name;
  double LoggedStep::*field;
  double unit = 1;
  Chart::Scale scale = Chart::Scale::linear;
};

std::vector<Curve> curves_of(const Runs& runs, const Names& names, double LoggedStep::*y, const XAxis& x, bool noisy) {
  std::vector<Curve> thin, curves;
  for (size_t i = 0; i < runs.size(); ++i) {
    Curve curve{names[i], {}, static_cast<int>(i)};
    for (const LoggedStep& s : runs[i].steps)
      if (std::isfinite(s.*y) && std::isfinite(s.*x.field)) curve.points.push_back({s.*x.field / x.unit, s.*y});
    if (noisy) {
      thin.push_back({"", curve.points, curve.colour, Curve::Style::thin});
      curve.points =
          smoothed(curve.points, y == &LoggedStep::gradient_norm ? Chart::Scale::logarithmic : Chart::Scale::linear);
    } else if (y == &LoggedStep::validation_loss) {
      curve.style = Curve::Style::dots;
    }
    curves.push_back(std::move(curve));
  }
  thin.insert(thin.end(), curves.begin(), curves.end());
  return thin;
}

// Seconds in the unit in which the longest run is a small number.
XAxis time_axis(const Runs& runs) {
  double longest = 0;
  for (const TrainingRun& run : runs) longest = std::fmax(longest, figures_of(run).seconds);
  if (longest >= 3 * 3600) return {"time", "hours", &LoggedStep::seconds, 3600};
  if (longest >= 3 * 60) return {"time", "minutes", &LoggedStep::seconds, 60};
  return {"time", "seconds", &LoggedStep::seconds};
}

std::string loss_choice(const Runs& runs, const Names& names, const char* title, double LoggedStep::*y) {
  const XAxis step{"steps", "step", &LoggedStep::step}, tokens{"tokens", "tokens", &LoggedStep::tokens};
  XAxis logarithmic = step;
  logarithmic.button = "steps, logarithmic";
  logarithmic.scale = Chart::Scale::logarithmic;
  std::vector<ChartChoice> choices;
  for (const XAxis& x : {step, logarithmic, tokens, time_axis(runs)}) {
    Chart chart{.title = title, .unit = "nats a target", .curves = {}};
    chart.curves = curves_of(runs, names, y, x, y == &LoggedStep::loss);
    chart.x_name = x.name;
    chart.x_scale = x.scale;
    chart.cut_peaks = chart.tall = true;
    choices.push_back({x.button, draw(chart)});
  }
  return html_choice(title, choices);
}

std::string other_charts(const Runs& runs, const Names& names) {
  const XAxis step{"", "step", &LoggedStep::step};
  const auto chart_of = [&](const char* title, const char* unit, double LoggedStep::*y, bool noisy) {
    return Chart{.title = title, .unit = unit, .curves = curves_of(runs, names, y, step, noisy)};
  };
  Chart rate = chart_of("Learning rate", "", &LoggedStep::learning_rate, false);
  Chart norm = chart_of("Gradient norm", "before clipping", &LoggedStep::gradient_norm, true);
  Chart ratio = chart_of("Update-to-weight ratio", "of the matrices", &LoggedStep::matrices_ratio, false);
  Chart speed = chart_of("Throughput", "tokens/s", &LoggedStep::tokens_per_second, true);
  norm.y_scale = ratio.y_scale = Chart::Scale::logarithmic;
  rate.from_zero = speed.from_zero = speed.cut_peaks = true;
  return "<div class='charts'>" + draw(rate) + draw(norm) + draw(ratio) + draw(speed) + "</div>\n";
}

std::string runs_table(const Runs& runs, const Names& names) {
  double best = INFINITY;
  for (const TrainingRun& run : runs) best = std::fmin(best, figures_of(run).best_validation_loss);
  const auto loss = [](double value) { return std::isfinite(value) ? fmt::format("{:.4f}", value) : ""; };
  const auto known = [](double value) { return std::isfinite(value) ? short_number(value) : ""; };
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunFigures f = figures_of(runs[i]);
    const std::string lowest = loss(f.best_validation_loss);
    rows.push_back({fmt::format("<i class='c{}'></i>{}", i % 8, escape_html(names[i])),
                    f.best_validation_loss == best ? "<b>" + lowest + "</b>" : lowest,
                    lowest.empty() ? "" : with_commas(f.best_step), loss(f.validation_loss), loss(f.bits_per_byte),
                    loss(f.train_loss), with_commas(f.steps), known(f.tokens), shown_time(f.seconds),
                    known(f.tokens_per_second)});
  }
  return html_table("figures",
                    {"run", "best validation loss", "at step", "last", "bits per byte", "training loss", "steps",
                     "tokens", "time", "tokens/s"},
                    rows);
}

// What does not fit in a cell is cut; the whole is shown under the pointer.
std::string value_cell(const std::string& value) {
  size_t end = 60;
  if (value.size() <= end) return escape_html(value);
  while (end > 0 && (value[end] & 0xC0) == 0x80) --end;  // a character is not cut
  return fmt::format("<span title='{}'>{}\u2026</span>", escape_html(value), escape_html(value.substr(0, end)));
}

std::string differences(const Runs& runs, const Names& names) {
  Names paths, head = {""};
  for (const TrainingRun& run : runs)
    for (const auto& [path, value] : run.recipe_values)
      if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
  std::vector<std::vector<std::string>> rows;
  for (const std::string& path : paths) {
    const auto differs = [&](const TrainingRun& run) { return run.recipe_value(path) != runs[0].recipe_value(path); };
    if (std::none_of(runs.begin(), runs.end(), differs)) continue;
    rows.push_back({escape_html(path)});
    for (const TrainingRun& run : runs) rows.back().push_back(value_cell(run.recipe_value(path)));
  }
  for (const std::string& name : names) head.push_back(escape_html(name));
  if (runs.size() < 2) return {};
  return "<h2>Where the recipes differ</h2>\n" + (rows.empty() ? "<p>Nowhere.</p>" : html_table("", head, rows));
}

}  // namespace

std::string comparison_page(const std::vector<TrainingRun>& runs) {
  const Names names = run_names(runs);
  const std::string title = fmt::format("{} training run{}", runs.size(), runs.size() == 1 ? "" : "s");
  return html_page(title, "<h1>" + title + "</h1>\n" + runs_table(runs, names) +
                              loss_choice(runs, names, "Validation loss", &LoggedStep::validation_loss) +
                              loss_choice(runs, names, "Training loss", &LoggedStep::loss) + other_charts(runs, names) +
                              differences(runs, names));
}

}  // namespace lathe
