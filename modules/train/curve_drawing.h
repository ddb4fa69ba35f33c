// Charts of curves as inline SVG, which fit any width: what scales lies in an SVG of its own within the chart, texts
// are placed by shares of the width and keep their size. Their colours and the read-out under the pointer are
// report_page's.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace lathe {

struct CurvePoint {
  double x, y;
};

struct Curve {
  enum class Style : uint8_t { line, thin, dots };

  std::string label;               // empty: not in the legend
  std::vector<CurvePoint> points;  // finite, by x
  int colour = 0;                  // its number in the page's palette
  Style style = Style::line;
};

struct Chart {
  enum class Scale : uint8_t { linear, logarithmic };  // what is not above 0 has no place on the latter
  // A height worth knowing, and an x where something happened.
  struct Level {
    double y;
    std::string label;
  };
  struct Mark {
    double x;
    std::string text;
  };

  std::string title{}, unit{};  // of y
  std::vector<Curve> curves{};
  std::string x_name = "step";  // charts of one name show the same x under the pointer
  Scale x_scale = Scale::linear, y_scale = Scale::linear;
  bool from_zero = false;  // the y axis of a linear scale
  bool cut_peaks = false;  // the few highest values may lie outside of a linear scale, which says so
  bool tall = false;
  std::vector<Level> levels{};
  std::vector<Mark> marks{};
};

// A <figure>; empty where no curve has a point.
std::string draw(const Chart& chart);

// The mean over a window that widens along the curve up to a twentieth of it: steep beginnings stay, noise goes. On a
// logarithmic scale the geometric mean, of what is above 0.
std::vector<CurvePoint> smoothed(std::vector<CurvePoint> points, Chart::Scale scale = Chart::Scale::linear);

}  // namespace lathe
