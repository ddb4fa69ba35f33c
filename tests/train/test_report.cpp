// What a run wrote of itself, read back and drawn.
#include <fmt/format.h>

#include <cmath>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "train/curve_drawing.h"
#include "train/report.h"
#include "train/shown_numbers.h"

namespace {

using Catch::Matchers::ContainsSubstring;
using namespace lathe;
using namespace lathe::test;

constexpr const char* kReportRecipe = R"(model: {config: configs/gpt2/124m.yaml}
training: {steps: 40, clip: 1.0, dtype: float32}
optimizer: {name: adamw}
decayed: [wte.weight, h.0.attn.weight]
)";
constexpr const char* kMetrics =
    R"({"step": 10, "loss": 4.0, "gradient_norm": 2.0, "learning_rate": 0.001, "tokens": 1000, "tokens_per_second": 500}
{"step": 20, "loss": 3.0, "gradient_norm": 0.5, "learning_rate": 0.002, "tokens": 2000, "tokens_per_second": 1000, "validation_loss": 2.5, "validation_bits_per_byte": 1.25, "update_ratio": {"matrices": 0.001, "tables": 0.002, "others": null}}
{"step": 30, "loss": "nan", "gradient_norm": null, "skipped": true, "reason": "<b>NaN</b> in h.0"}
{"step": 40, "loss": 2.0, "tokens": 4000, "tokens_per_second": 2000, "validation_loss": 2.75, "event": "what is not known"}
)";

struct Run {
  TemporaryDirectory folder;

  Run() {
    write("metrics.jsonl", kMetrics);
    write("recipe.yaml", kReportRecipe);
  }
  std::string path() const { return folder.path().string(); }
  void write(const std::string& name, const std::string& text) const { write_file(folder.path() / name, text); }
  TrainingRun read() const { return read_training_run(path()); }
  std::string report() const {
    write_report(path(), 1234567);
    return read_file(folder.path() / "report.html");
  }
};

// The path's coordinates in the first curve that is drawn.
std::string first_path(const std::string& figure) {
  const size_t begin = figure.find(" d='") + 4;
  return figure.substr(begin, figure.find('\'', begin) - begin);
}

}  // namespace

TEST_CASE("report: numbers for people") {
  const std::vector<std::pair<double, std::string>> cases = {
      {0, "0"},          {3e-4, "3e-4"},    {2.1e-3, "2.1e-3"},  {1.2345e-5, "1.23e-5"},
      {0.0123, "0.012"}, {1.5, "1.5"},      {2.3629, "2.363"},   {999.96, "1000"},
      {1234, "1,234"},   {12345, "12.35k"}, {1536000, "1.536M"}, {-0.25, "-0.25"},
      {7.5e9, "7.5B"},   {1e-3, "1e-3"}};
  for (const auto& [value, text] : cases) CHECK(short_number(value) == text);
  CHECK(with_commas(1536000) == "1,536,000");
  CHECK(with_commas(-999) == "-999");
  CHECK(shown_time(41.4) == "41 s");
  CHECK(shown_time(161) == "2 min 41 s");
  CHECK(shown_time(2 * 86400 + 3 * 3600 + 1) == "2 d 3 h");
  CHECK(shown_time(NAN).empty());
  CHECK(escape_html("<a b='\"&\">") == "&lt;a b=&#39;&quot;&amp;&quot;&gt;");
}

TEST_CASE("report: a smoothed curve keeps constants, straight lines and steep beginnings") {
  std::vector<CurvePoint> points;
  for (int i = 0; i < 400; ++i) points.push_back({1.0 * i, i < 3 ? 10.0 : 2.0 + (i % 2)});
  const auto smooth = smoothed(points);
  CHECK(smooth[0].y == 10.0);
  // Two means over 21 values of 2 and 3 in turns, 10 or 11 of them 3: within 1/42 of 2.5 after the first.
  for (size_t i = 80; i < smooth.size() - 20; ++i) CHECK(std::abs(smooth[i].y - 2.5) <= 1.0 / 42);
  for (CurvePoint& p : points) p.y = p.x == 200 ? 1e4 : 1;
  // One of 21 values in a geometric mean.
  CHECK(smoothed(points, Chart::Scale::logarithmic)[200].y == Catch::Approx(std::pow(1e4, 1.0 / 21)));
}

TEST_CASE("report: points lie where the axes say") {
  Chart chart{.title = "t", .unit = "u", .curves = {{"c", {{0, 1}, {500, 2}, {1000, 3}}}}};
  // The y axis goes from 1 - 0.04 * 2 to 3 + 0.04 * 2.
  CHECK(first_path(draw(chart)) == "M0.0 963.0L500.0 500.0L1000.0 37.0h0");
  CHECK_THAT(draw(chart), ContainsSubstring(">1.5</text>"));
  CHECK_THAT(draw(chart), ContainsSubstring(">1,000</text>"));
  chart.curves = {{"c", {{1, 1}, {10, 0}, {10, -5}, {100, 10}}}};
  chart.x_scale = chart.y_scale = Chart::Scale::logarithmic;
  CHECK(first_path(draw(chart)) == "M0.0 963.0L1000.0 37.0h0");
  chart.curves = {{"c", {{1, -1}}}, {"d", {}}};
  CHECK(draw(chart).empty());
}

TEST_CASE("report: of many points what is seen of them stays") {
  Curve curve{"c", {}};
  for (int i = 0; i <= 200'000; ++i) curve.points.push_back({1.0 * i, i == 77'777 ? 1000.0 : i % 2});
  const std::string figure = draw({.title = "t", .unit = "u", .curves = {curve}});
  CHECK(figure.size() < 4 * 1001 * 40);  // four points a column: coordinates, step and value in some 30 characters
  CHECK_THAT(figure, ContainsSubstring(" 1000 "));
  CHECK_THAT(figure, ContainsSubstring(" 77777 "));
}

TEST_CASE("report: the first few values may lie outside of the frame, which says so") {
  Chart chart{.title = "t", .unit = "u", .curves = {{"c", {{0, 11}}}}};
  for (int i = 1; i < 200; ++i) chart.curves[0].points.push_back({1.0 * i, 3 + 0.001 * i});
  CHECK_THAT(draw(chart), !ContainsSubstring("\u2191"));
  chart.cut_peaks = true;
  CHECK_THAT(draw(chart), ContainsSubstring("\u2191 to 11"));
}

TEST_CASE("report: values that no axis holds end in no endless loop") {
  for (const auto scale : {Chart::Scale::linear, Chart::Scale::logarithmic})
    for (const double value : {1e308, -1e308, 1e-308, 1e16, 5e-324, 1e99})
      for (const double other : {value, value * (1 + 1e-15), value + 2, 1.0, 0.0}) {
        Chart chart{.title = "t", .unit = "u", .curves = {{"c", {{1, value}, {2, other}}}}};
        chart.y_scale = chart.x_scale = scale;
        draw(chart);
      }
}

TEST_CASE("report: figures of a run") {
  const TrainingRun run = Run().read();
  REQUIRE(run.steps.size() == 4);
  CHECK(std::isnan(run.steps[2].loss));
  CHECK(run.steps[2].skipped == "<b>NaN</b> in h.0");
  CHECK(run.steps[1].tables_ratio == 0.002);
  CHECK(std::isnan(run.steps[1].others_ratio));
  const RunFigures f = figures_of(run);
  CHECK(f.steps == 40);
  CHECK(f.tokens == 4000);
  CHECK(f.train_loss == 2.0);  // of so few steps each is its own mean
  CHECK(f.validation_loss == 2.75);
  CHECK(f.best_validation_loss == 2.5);
  CHECK(f.best_step == 20);
  CHECK(f.bits_per_byte == 1.25);
  CHECK(f.perplexity == std::exp(2.75));
  CHECK(run.seconds_estimated);
  CHECK(f.seconds == 1000 / 500.0 + 1000 / 1000.0 + 2000 / 2000.0);
  CHECK(run.recipe_value("optimizer.name") == "adamw");
  CHECK(run.recipe_value("decayed") == "[wte.weight, h.0.attn.weight]");
  CHECK(run.recipe_number("training.steps") == 40);
  CHECK(run.recipe_number("optimizer.name") == std::nullopt);
}

TEST_CASE("report: the page shows what the run wrote, as text") {
  const Run run;
  run.write("samples.jsonl", R"({"step": 40, "prompt": "<i>Once", "text": " upon</pre><script>alert(1)</script>"})"
                             "\n");
  const std::string page = run.report();
  CHECK_THAT(page, ContainsSubstring("&lt;i&gt;Once</b> upon&lt;/pre&gt;&lt;script&gt;"));
  CHECK_THAT(page, ContainsSubstring("step 30 skipped: &lt;b&gt;NaN&lt;/b&gt; in h.0"));
  CHECK_THAT(page, ContainsSubstring("<dd>15.64</dd>"));  // exp(2.75)
  CHECK_THAT(page, ContainsSubstring("<dd>1.235M</dd>"));
  CHECK_THAT(page, ContainsSubstring("clip 1<"));
  CHECK_THAT(page, ContainsSubstring("clipped in 50% of the logged steps"));
  CHECK_THAT(page, ContainsSubstring("decayed: [wte.weight, h.0.attn.weight]"));
  for (const char* from_outside : {"http", "src=", "@import", "url(", "<link"})
    CHECK_THAT(page, !ContainsSubstring(from_outside));
}

TEST_CASE("report: a run without a logged step has a page too") {
  const Run run;
  run.write("metrics.jsonl", "");
  CHECK_THAT(run.report(), ContainsSubstring("configs/gpt2/124m.yaml"));
}

TEST_CASE("report: a line that a killed run left half-written is left out, any other is an error with its number") {
  const Run run;
  const std::string metrics = kMetrics;
  for (size_t cut = metrics.rfind('\n', metrics.size() - 2) + 1; cut < metrics.size() - 1; ++cut) {
    run.write("metrics.jsonl", metrics.substr(0, cut));
    CHECK(run.read().steps.size() == 3);
  }
  run.write("metrics.jsonl", metrics.substr(0, metrics.size() - 1));  // whole but for its line feed
  CHECK(run.read().steps.size() == 4);
  const auto refused = [&](const std::string& lines, const std::string& why) {
    run.write("metrics.jsonl", lines);
    CHECK_THROWS_WITH(run.read(), ContainsSubstring("metrics.jsonl: line " + why));
  };
  refused("{\"step\": 1}\n{\"step\": 2, \"lo\n{\"step\": 3}\n", "2: parse error");
  refused("{\"step\": 5}\n{\"step\": 4}\n", "2: step 4 follows step 5");
  refused("{\"loss\": 5}\n", "1: 'step' is missing");
  refused("{\"step\": 0}\n", "1: step: expected an integer from 1");
  refused("{\"step\": 1, \"loss\": \"low\"}\n", "1: loss: expected a number");
  refused("{\"step\": 1, \"update_ratio\": 3}\n", "1: update_ratio");
}

TEST_CASE("report: what is missing or no recipe is named") {
  CHECK_THROWS_WITH(read_training_run("/no/such/folder"), ContainsSubstring("/no/such/folder is no folder"));
  const Run run;
  std::filesystem::remove(run.folder.path() / "recipe.yaml");
  CHECK_THROWS_WITH(run.read(), ContainsSubstring("recipe.yaml"));
  run.write("recipe.yaml", "a: [1\nb: 2");
  CHECK_THROWS_WITH(run.read(), ContainsSubstring("recipe.yaml:"));
  // Aliases of aliases: 9^9 values.
  std::string bomb = "a0: &a0 {x: 1}\n";
  for (int i = 1; i <= 9; ++i) {
    bomb += fmt::format("a{0}: &a{0} {{", i);
    for (int k = 0; k < 9; ++k) bomb += fmt::format("k{}: *a{}, ", k, i - 1);
    bomb += "z: 1}\n";
  }
  run.write("recipe.yaml", bomb);
  CHECK_THROWS_WITH(run.read(), ContainsSubstring("recipe.yaml"));
  std::filesystem::remove(run.folder.path() / "metrics.jsonl");
  CHECK_THROWS_WITH(run.read(), ContainsSubstring("metrics.jsonl"));
}

TEST_CASE("report: several runs on one page, with what differs between them") {
  const Run first, second;
  second.write("recipe.yaml", std::string(kReportRecipe) + "note: <wide>\n");
  second.write("metrics.jsonl", R"({"step": 10, "loss": 2.0, "validation_loss": 2.25})"
                                "\n");
  const std::vector<TrainingRun> runs = {first.read(), second.read()};
  const std::vector<std::string> names = run_names(runs);
  CHECK(names[0] == first.folder.path().filename().string());
  const std::string page = comparison_page(runs);
  CHECK_THAT(page, ContainsSubstring("<td><b>2.2500</b></td>"));
  CHECK_THAT(page, ContainsSubstring("<tr><td>note</td><td></td><td>&lt;wide&gt;</td></tr>"));
  CHECK_THAT(page, !ContainsSubstring("<td>optimizer.name"));
  CHECK_THAT(page, !ContainsSubstring("nan"));
  CHECK(run_names({first.read(), first.read()}) == std::vector<std::string>{first.path(), first.path()});
}
