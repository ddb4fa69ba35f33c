// See report.h.
#include "train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "formats/atomic_file.h"
#include "train/curve_drawing.h"
#include "train/report_page.h"
#include "train/shown_numbers.h"

namespace lathe {
namespace {

std::vector<CurvePoint> points_of(const TrainingRun& run, double LoggedStep::*y) {
  std::vector<CurvePoint> points;
  for (const LoggedStep& s : run.steps)
    if (std::isfinite(s.*y)) points.push_back({s.step, s.*y});
  return points;
}

// "" where the value is not known.
std::string shown(double value) { return std::isfinite(value) ? short_number(value) : ""; }

std::string tile(const std::string& name, const std::string& value, const std::string& note = "") {
  if (value.empty()) return {};
  return fmt::format("<div><dt>{}</dt><dd>{}</dd><small>{}</small></div>\n", name, value, escape_html(note));
}

std::string summary(const TrainingRun& run, std::optional<int64_t> parameters) {
  const RunFigures f = figures_of(run);
  const auto skipped = std::count_if(run.steps.begin(), run.steps.end(), [](const LoggedStep& s) { return s.skipped; });
  const double planned = run.recipe_number("training.steps").value_or(0);
  return "<dl>" +
         tile("validation loss", shown(f.validation_loss),
              fmt::format("best {} at step {}", shown(f.best_validation_loss), with_commas(f.best_step))) +
         tile("training loss", shown(f.train_loss), "a mean of the last steps") +
         tile("bits per byte", shown(f.bits_per_byte), "of the validation text") +
         tile("perplexity", shown(f.perplexity), f.best_step > 0 ? "of the validation loss" : "of the training loss") +
         tile("steps", with_commas(f.steps), planned > 0 ? "of " + with_commas(planned) : "") +
         tile("tokens", shown(f.tokens)) +
         tile("time", shown_time(f.seconds), run.seconds_estimated ? "of the steps alone" : "") +
         tile("speed", shown(f.tokens_per_second), "tokens/s, median") +
         tile("parameters", parameters ? short_number(static_cast<double>(*parameters)) : "") +
         tile("skipped steps", skipped > 0 ? fmt::format("{}", skipped) : "", "marked below") + "</dl>\n";
}

std::vector<Chart::Mark> skipped_marks(const TrainingRun& run) {
  std::vector<Chart::Mark> marks;
  for (const LoggedStep& s : run.steps)
    if (s.skipped) marks.push_back({s.step, fmt::format("step {} skipped: {}", s.step, *s.skipped)});
  return marks;
}

// Single values thin, their mean on top.
std::vector<Curve> noisy(const std::vector<CurvePoint>& points, const std::string& label, int colour,
                         Chart::Scale scale = Chart::Scale::linear) {
  return {{label, points, colour, Curve::Style::thin}, {"smoothed", smoothed(points, scale), colour}};
}

std::string loss_chart(const TrainingRun& run) {
  Chart chart{
      .title = "Loss", .unit = "nats a target", .curves = noisy(points_of(run, &LoggedStep::loss), "training", 0)};
  chart.curves.push_back({"validation", points_of(run, &LoggedStep::validation_loss), 1, Curve::Style::dots});
  chart.cut_peaks = chart.tall = true;
  chart.marks = skipped_marks(run);
  const std::string linear = draw(chart);
  chart.x_scale = Chart::Scale::logarithmic;
  return html_choice("loss", {{"steps", linear}, {"steps, logarithmic", draw(chart)}});
}

std::string gradient_chart(const TrainingRun& run) {
  const std::vector<CurvePoint> norms = points_of(run, &LoggedStep::gradient_norm);
  Chart chart{.title = "Gradient norm",
              .unit = "before clipping",
              .curves = noisy(norms, "each", 3, Chart::Scale::logarithmic)};
  chart.y_scale = Chart::Scale::logarithmic;
  chart.marks = skipped_marks(run);
  const double clip = run.recipe_number("training.clip").value_or(0);
  if (clip > 0 && !norms.empty()) {
    const auto above = std::count_if(norms.begin(), norms.end(), [&](const CurvePoint& p) { return p.y > clip; });
    chart.levels = {{clip, "clip " + short_number(clip)}};
    chart.unit += fmt::format("; clipped in {:.0f}% of the logged steps",
                              100.0 * static_cast<double>(above) / static_cast<double>(norms.size()));
  }
  return draw(chart);
}

std::string ratio_chart(const TrainingRun& run) {
  Chart chart{.title = "Update-to-weight ratio", .unit = "norm of a step's update / norm of the weights"};
  chart.curves = {{"matrices", points_of(run, &LoggedStep::matrices_ratio), 0},
                  {"tables", points_of(run, &LoggedStep::tables_ratio), 1},
                  {"others", points_of(run, &LoggedStep::others_ratio), 2}};
  chart.y_scale = Chart::Scale::logarithmic;
  chart.levels = {{1e-3, "1e-3 is usual"}};
  return draw(chart);
}

std::string small_charts(const TrainingRun& run) {
  Chart rate{.title = "Learning rate", .unit = "", .curves = {{"rate", points_of(run, &LoggedStep::learning_rate), 2}}};
  Chart speed{.title = "Throughput",
              .unit = "tokens/s",
              .curves = noisy(points_of(run, &LoggedStep::tokens_per_second), "each", 4)};
  rate.from_zero = speed.from_zero = speed.cut_peaks = true;
  return "<div class='charts'>" + draw(rate) + gradient_chart(run) + ratio_chart(run) + draw(speed) + "</div>\n";
}

std::string skipped_table(const TrainingRun& run) {
  std::vector<std::vector<std::string>> rows;
  for (const LoggedStep& s : run.steps)
    if (s.skipped) rows.push_back({with_commas(s.step), escape_html(*s.skipped)});
  return rows.empty() ? "" : "<h2>Skipped steps</h2>" + html_table("", {"step", "why"}, rows);
}

// Of many steps some, evenly, the first and the last among them.
std::string samples(const TrainingRun& run) {
  constexpr size_t kMostShown = 12;
  std::map<double, std::string> by_step;
  for (const TrainingSample& s : run.samples)
    by_step[s.step] += fmt::format("<pre dir='auto'><b>{}</b>{}</pre>", escape_html(s.prompt), escape_html(s.text));
  if (by_step.empty()) return {};
  std::string html = "<h2>Samples</h2>\n";
  const size_t n = by_step.size(), shown = std::min(n, kMostShown);
  if (shown < n) html += fmt::format("<p>{} of {} steps; all are in samples.jsonl.</p>", shown, n);
  for (size_t k = 0; k < shown; ++k) {
    const auto at = std::next(by_step.begin(), static_cast<std::ptrdiff_t>(shown == 1 ? 0 : k * (n - 1) / (shown - 1)));
    html +=
        fmt::format("<div class='sample'><b>step {}</b><div>{}</div></div>", with_commas(at->first), at->second) + "\n";
  }
  return html;
}

std::string heading(const TrainingRun& run) {
  std::string facts;
  for (const char* path :
       {"model.config", "model.architecture.architecture", "model.checkpoint", "optimizer.name", "training.dtype"})
    if (const std::string value = run.recipe_value(path); !value.empty())
      facts += (facts.empty() ? "" : " \u00b7 ") + value;
  return fmt::format("<h1>{}</h1><p>{}</p>\n", escape_html(run_names({run})[0]), escape_html(facts));
}

}  // namespace

RunFigures figures_of(const TrainingRun& run) {
  RunFigures f;
  std::vector<double> speeds;
  for (const LoggedStep& s : run.steps) {
    f.steps = s.step;
    if (std::isfinite(s.tokens)) f.tokens = s.tokens;
    if (std::isfinite(s.seconds)) f.seconds = s.seconds;
    if (std::isfinite(s.tokens_per_second)) speeds.push_back(s.tokens_per_second);
    if (std::isfinite(s.validation_bits_per_byte)) f.bits_per_byte = s.validation_bits_per_byte;
    if (!std::isfinite(s.validation_loss)) continue;
    f.validation_loss = s.validation_loss;
    if (!(f.best_validation_loss <= s.validation_loss)) {
      f.best_validation_loss = s.validation_loss;
      f.best_step = s.step;
    }
  }
  if (const auto loss = smoothed(points_of(run, &LoggedStep::loss)); !loss.empty()) f.train_loss = loss.back().y;
  f.perplexity = std::exp(std::isfinite(f.validation_loss) ? f.validation_loss : f.train_loss);
  std::sort(speeds.begin(), speeds.end());
  if (!speeds.empty()) f.tokens_per_second = speeds[speeds.size() / 2];
  return f;
}

void write_report(const std::string& folder, std::optional<int64_t> parameters) {
  const TrainingRun run = read_training_run(folder);
  AtomicFile file(folder + "/report.html");
  file.write(html_page(
      run_names({run})[0] + " \u2013 training",
      heading(run) + summary(run, parameters) + loss_chart(run) + small_charts(run) + skipped_table(run) +
          samples(run) + "<h2>Recipe</h2><pre class='recipe'>" + escape_html(run.recipe) + "</pre>\n" +
          "<footer>Drawn by lathe from metrics.jsonl, samples.jsonl and recipe.yaml of this folder.</footer>\n"));
  file.commit();
}

std::vector<std::string> run_names(const std::vector<TrainingRun>& runs) {
  std::vector<std::string> whole, last;
  for (const TrainingRun& run : runs) {
    const std::filesystem::path folder = std::filesystem::absolute(run.folder).lexically_normal();
    whole.push_back(run.folder);
    last.push_back((folder.has_filename() ? folder : folder.parent_path()).filename().string());
  }
  return std::set<std::string>(last.begin(), last.end()).size() == last.size() ? last : whole;
}

}  // namespace lathe
