// See curve_drawing.h.
#include "train/curve_drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "train/shown_numbers.h"

namespace lathe {
namespace {

constexpr double kFrame = 1000;  // the drawing's width and height in its own units

struct Axis {
  double low, high;
  bool logarithmic;
  std::vector<std::pair<double, std::string>> ticks{};

  // 0 at `low`, 1 at `high`.
  double place(double value) const {
    return logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  }
};

// At multiples of 1, 2 or 5 times a power of ten.
void add_round_ticks(Axis& axis, int wanted) {
  const double rough = (axis.high - axis.low) / wanted, power = std::pow(10, std::floor(std::log10(rough)));
  const double step = power * (rough <= 2 * power ? 2 : rough <= 5 * power ? 5 : 10);
  const double largest = std::max(std::abs(axis.low), std::abs(axis.high));
  const auto [unit, letter] = unit_of(largest);
  // Steps may be as small as numbers are, or nothing at all beside the unit.
  const int decimals = static_cast<int>(std::min(30.0, std::max(0.0, std::ceil(-std::log10(step / unit) - 1e-9))));
  for (double k = std::ceil(axis.low / step - 1e-9) + 0.0; k * step <= axis.high + 1e-9 * step; ++k) {
    const bool plain = k == 0 || largest < 1e-2 || (unit == 1 && decimals == 0);
    axis.ticks.emplace_back(
        k * step, plain ? short_number(k * step) : fmt::format("{:.{}f}{}", k * step / unit, decimals, letter));
  }
}

// At powers of ten and, where these are few, at 2 and 5 times them.
void add_decade_ticks(Axis& axis) {
  const double first = std::log10(axis.low), last = std::log10(axis.high);
  const int stride = std::max(1, static_cast<int>((last - first) / 6));
  for (int exponent = static_cast<int>(std::floor(first)); exponent <= last; ++exponent)
    for (const int mantissa : {1, 2, 5}) {
      const double value = mantissa * std::pow(10, exponent), place = axis.place(value);
      const bool wanted = mantissa == 1 ? exponent % stride == 0 : last - first < 3.2;
      if (wanted && place >= -1e-9 && place <= 1 + 1e-9) axis.ticks.emplace_back(value, short_number(value));
    }
}

// `margin`: the share of the range that is added at both ends, though not below 0.
Axis axis_over(double low, double high, Chart::Scale scale, double margin, int wanted_ticks) {
  Axis axis{low, high, scale == Chart::Scale::logarithmic};
  const bool one_value = high - low <= 1e-9 * std::max(std::abs(low), std::abs(high));
  if (axis.logarithmic) {
    const double factor = one_value ? 2 : std::pow(high / low, margin);
    axis.low /= factor;
    axis.high *= factor;
  } else {
    const double room = !one_value ? margin * (high - low) : low == 0 ? 1 : std::abs(low) / 2;
    axis.low -= low == 0 ? 0 : room;
    axis.high += room;
  }
  if (axis.logarithmic && axis.high > 10 * axis.low)
    add_decade_ticks(axis);
  else
    add_round_ticks(axis, wanted_ticks);
  return axis;
}

// All of the chart, ascending.
std::vector<double> values_of(const Chart& chart, double CurvePoint::*coordinate) {
  std::vector<double> values;
  for (const Curve& curve : chart.curves)
    for (const CurvePoint& p : curve.points) values.push_back(p.*coordinate);
  std::sort(values.begin(), values.end());
  return values;
}

Axis x_axis(const Chart& chart) {
  const std::vector<double> values = values_of(chart, &CurvePoint::x);
  const bool linear = chart.x_scale == Chart::Scale::linear;
  return axis_over(linear ? std::min(0.0, values.front()) : values.front(), values.back(), chart.x_scale, 0, 6);
}

// The y axis, and the highest value where that lies outside, else 0.
std::pair<Axis, double> y_axis(const Chart& chart) {
  const std::vector<double> values = values_of(chart, &CurvePoint::y);
  double low = values.front(), high = values.back(), outside = 0;
  const double usual = values[(values.size() - 1) * 97 / 100], top = usual + 0.4 * (usual - low);
  if (chart.cut_peaks && high - low > 1.5 * (top - low)) outside = std::exchange(high, top);
  for (const Chart::Level& level : chart.levels) {
    low = std::min(low, level.y);
    high = std::max(high, level.y);
  }
  if (chart.from_zero) low = std::min(low, 0.0);
  return {axis_over(low, high, chart.y_scale, 0.04, chart.tall ? 8 : 5), outside};
}

// What a line through all points shows: the first, lowest, highest and last of each column of the frame.
std::vector<CurvePoint> visible_points(const std::vector<CurvePoint>& points, const Axis& x) {
  std::vector<CurvePoint> shown;
  const auto column = [&](const CurvePoint& p) { return std::floor(x.place(p.x) * kFrame); };
  for (auto first = points.begin(), end = first; first != points.end(); first = end) {
    end = std::find_if(first, points.end(), [&](const CurvePoint& p) { return column(p) != column(*first); });
    const auto [lowest, highest] =
        std::minmax_element(first, end, [](const CurvePoint& a, const CurvePoint& b) { return a.y < b.y; });
    std::vector kept = {first, lowest, highest, end - 1};
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    for (const auto& p : kept) shown.push_back(*p);
  }
  return shown;
}

std::string draw_path(const Curve& curve, const Axis& x, const Axis& y) {
  std::string path, xs, ys;
  for (const CurvePoint& p : curve.points) {
    const double height = std::clamp(kFrame * (1 - y.place(p.y)), -kFrame, 2 * kFrame);
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", kFrame * x.place(p.x), height);
    xs += fmt::format("{}{:.10g}", xs.empty() ? "" : " ", p.x);
    ys += fmt::format("{}{:.5g}", ys.empty() ? "" : " ", p.y);
  }
  return fmt::format("<path class='{} c{}'{} d='{}h0'/>\n", curve.style == Curve::Style::thin ? "thin" : "line",
                     curve.colour % 8, curve.label.empty() ? "" : fmt::format(" data-x='{}' data-y='{}'", xs, ys),
                     path);
}

std::string percent(double share) { return fmt::format("{:.2f}%", 100 * share); }

// At shares of the frame's width and height.
std::string line(const char* kind, const std::string& x1, const std::string& y1, const std::string& x2,
                 const std::string& y2, const std::string& title = "") {
  return fmt::format("<line class='{}' x1='{}' y1='{}' x2='{}' y2='{}'>{}</line>", kind, x1, y1, x2, y2,
                     title.empty() ? "" : "<title>" + escape_html(title) + "</title>");
}

// `anchor`: which end of the text stands at x; dx in pixels, dy in lines.
std::string label(const char* anchor, const std::string& x, const std::string& y, double dx, double dy,
                  const std::string& text) {
  return fmt::format("<text class='{}' x='{}' y='{}' dx='{}' dy='{}em'>{}</text>", anchor, x, y, dx, dy,
                     escape_html(text));
}

// What lies under the curves.
std::string draw_grid(const Chart& chart, const Axis& x, const Axis& y) {
  std::string s;
  for (const auto& [value, text] : y.ticks) {
    const std::string at = percent(1 - y.place(value));
    s += line("grid", "0", at, "100%", at) + label("end", "0", at, -8, 0.32, text);
  }
  for (const auto& [value, text] : x.ticks) {
    const std::string at = percent(x.place(value));
    s += line("grid", at, "0", at, "100%") + label("middle", at, "100%", 0, 1.5, text);
  }
  return s + line("axis", "0", "100%", "100%", "100%") + label("end", "100%", "100%", 0, 2.8, chart.x_name) + "\n";
}

// What lies over them.
std::string draw_notes(const Chart& chart, const Axis& x, const Axis& y, double outside) {
  std::string s;
  for (const Chart::Mark& mark : chart.marks)
    s += line("mark", percent(x.place(mark.x)), "0", percent(x.place(mark.x)), "100%", mark.text);
  for (const Chart::Level& level : chart.levels) {
    const std::string at = percent(1 - y.place(level.y));
    s += line("level", "0", at, "100%", at) + label("end", "100%", at, 0, -0.4, level.label);
  }
  if (outside != 0) s += label("end", "100%", "0", -4, 1, "\u2191 to " + short_number(outside));
  return s;
}

std::string draw_dots(const Curve& curve, const Axis& x, const Axis& y) {
  std::string s;
  for (const CurvePoint& p : curve.points)
    if (const double height = y.place(p.y); height <= 1)
      s += fmt::format("<circle class='c{}' cx='{}' cy='{}' r='3'/>", curve.colour % 8, percent(x.place(p.x)),
                       percent(1 - height));
  return s;
}

std::string draw_legend(const Chart& chart) {
  std::string s = "<ul class='legend'>";
  for (const Curve& curve : chart.curves)
    if (!curve.label.empty())
      s += fmt::format("<li class='c{}'><i class='{}'></i>{} <output>{}</output></li>", curve.colour % 8,
                       curve.style == Curve::Style::thin ? "thin" : "", escape_html(curve.label),
                       short_number(curve.points.back().y));
  return s + (chart.marks.empty() ? "" : "<li><i class='mark'></i>skipped steps</li>") + "</ul>";
}

// Without what has no place on its scales, or is beyond what a page computes with.
Chart drawable(Chart chart) {
  const auto fits = [](double value, Chart::Scale scale) {
    return std::abs(value) < 1e100 && (scale == Chart::Scale::linear || value > 1e-100);
  };
  for (Curve& curve : chart.curves)
    std::erase_if(curve.points,
                  [&](const CurvePoint& p) { return !fits(p.x, chart.x_scale) || !fits(p.y, chart.y_scale); });
  std::erase_if(chart.curves, [](const Curve& curve) { return curve.points.empty(); });
  return chart;
}

}  // namespace

std::string draw(const Chart& given) {
  Chart chart = drawable(given);
  if (chart.curves.empty()) return {};
  const Axis x = x_axis(chart);
  const auto [y, outside] = y_axis(chart);
  std::string paths, dots;
  for (Curve& curve : chart.curves) {
    curve.points = visible_points(curve.points, x);
    paths += draw_path(curve, x, y);
    if (curve.style == Curve::Style::dots) dots += draw_dots(curve, x, y);
  }
  const auto described = [](const Axis& axis) {
    return fmt::format("{:.10g} {:.10g} {:d}", axis.low, axis.high, axis.logarithmic);
  };
  return fmt::format("<figure><figcaption><b>{}</b> <small>{}</small> <output class='at'></output></figcaption>{}",
                     escape_html(chart.title), escape_html(chart.unit), draw_legend(chart)) +
         fmt::format("<svg class='chart{}' role='img' aria-label='{}' data-name='{}' data-x='{}' data-y='{}'>\n",
                     chart.tall ? " tall" : "", escape_html(chart.title), escape_html(chart.x_name), described(x),
                     described(y)) +
         draw_grid(chart, x, y) + "<svg viewBox='0 0 1000 1000' preserveAspectRatio='none'>\n" + paths + "</svg>" +
         dots + draw_notes(chart, x, y, outside) + "<g class='pointer'></g></svg></figure>\n";
}

std::vector<CurvePoint> smoothed(std::vector<CurvePoint> points, Chart::Scale scale) {
  const bool logarithmic = scale == Chart::Scale::logarithmic;
  if (logarithmic) std::erase_if(points, [](const CurvePoint& p) { return p.y <= 0; });
  const auto n = static_cast<int64_t>(points.size());
  for (CurvePoint& p : points) p.y = logarithmic ? std::log(p.y) : p.y;
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<double> sums = {0};
    for (const CurvePoint& p : points) sums.push_back(sums.back() + p.y);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t half = std::min(i / 6, n / 40), end = std::min(n, i + half + 1);
      points[static_cast<size_t>(i)].y = (sums[static_cast<size_t>(end)] - sums[static_cast<size_t>(i - half)]) /
                                         static_cast<double>(end - (i - half));
    }
  }
  for (CurvePoint& p : points) p.y = logarithmic ? std::exp(p.y) : p.y;
  return points;
}

}  // namespace lathe
