// See shown_numbers.h.
#include "train/shown_numbers.h"

#include <fmt/format.h>

#include <cmath>

namespace lathe {
namespace {

// `value` without an exponent, at most `decimals` digits behind the point and no zeros at the end.
std::string without_zeros(double value, int decimals) {
  std::string text = fmt::format("{:.{}f}", value, decimals);
  if (text.find('.') != text.npos) text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

}  // namespace

std::pair<double, const char*> unit_of(double largest) {
  if (largest >= 1e12) return {1e12, "T"};
  if (largest >= 1e9) return {1e9, "B"};
  if (largest >= 1e6) return {1e6, "M"};
  if (largest >= 1e4) return {1e3, "k"};
  return {1, ""};
}

std::string short_number(double value) {
  const double size = std::abs(value);
  if (!std::isfinite(value)) return fmt::format("{}", value);
  if (size > 0 && size < 1e-2) {
    int exponent = static_cast<int>(std::floor(std::log10(size)));
    if (std::lround(size / std::pow(10, exponent) * 100) == 1000) ++exponent;  // 9.996e-4 is shown as 1e-3
    return fmt::format("{}e{}", without_zeros(value / std::pow(10, exponent), 2), exponent);
  }
  if (size >= 1000 && size < 1e4) return with_commas(value);
  const auto [unit, suffix] = unit_of(size);
  const double shown = std::abs(value / unit);
  return without_zeros(value / unit, shown >= 100 ? 1 : shown >= 10 ? 2 : 3) + suffix;
}

std::string with_commas(double value) {
  std::string text = fmt::format("{:.0f}", value);
  const int64_t first = text.starts_with('-') ? 1 : 0;
  for (int64_t at = std::ssize(text) - 3; at > first; at -= 3) text.insert(static_cast<size_t>(at), ",");
  return text;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      case '\0': out += "\xEF\xBF\xBD"; break;
      default: out += c;
    }
  return out;
}

std::string shown_time(double seconds) {
  if (!(seconds < 1e15)) return {};
  const auto s = static_cast<int64_t>(std::lround(seconds));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  return s < 86400 ? fmt::format("{} h {} min", s / 3600, s / 60 % 60)
                   : fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

}  // namespace lathe
