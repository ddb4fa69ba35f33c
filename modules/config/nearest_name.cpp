// See nearest_name.h.
#include "config/nearest_name.h"

#include <algorithm>
#include <numeric>

namespace lathe {
namespace {

// Longer names come from hostile files only.
constexpr size_t kLongest = 200;

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substituted = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::optional<std::string> nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  size_t best_distance = kLongest;
  for (const std::string& candidate : candidates) {
    const size_t longer = std::max(name.size(), candidate.size()), shorter = std::min(name.size(), candidate.size());
    // The difference of the lengths is a lower bound of the distance.
    if (longer > kLongest || longer - shorter > longer / 3 || longer - shorter >= best_distance) continue;
    const size_t distance = edit_distance(name, candidate);
    if (distance > longer / 3 || distance >= best_distance) continue;
    best = candidate;
    best_distance = distance;
  }
  return best;
}

}  // namespace lathe
