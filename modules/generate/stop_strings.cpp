#include "generate/stop_strings.h"

#include <algorithm>

#include "tensor/errors.h"
#include "text/unicode/unicode.h"

namespace lathe {
StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (size_t i = 0; i < stops_.size(); ++i) {
    check(!stops_[i].empty(), "stop strings", "string {} is empty", i);
    check_utf8(stops_[i], "stop strings");
  }
}

std::string StopStrings::push(std::string_view piece) {
  if (found_) return {};
  if (stops_.empty()) return std::string(piece);
  held_ += piece;
  size_t begin = held_.size(), end = std::string::npos;  // of the stop string that is complete first
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos || at + stop.size() > end) continue;
    begin = at + stop.size() < end ? at : std::min(begin, at);
    end = at + stop.size();
  }
  found_ = end != std::string::npos;
  if (found_) which_ = held_.substr(begin, end - begin);
  std::string certain = held_.substr(0, found_ ? begin : held_.size() - held_back());
  held_.erase(0, found_ ? held_.size() : certain.size());
  return certain;
}

std::string StopStrings::finish() {
  std::string rest;
  std::swap(rest, held_);
  return rest;
}

// Bytes at the end that are the beginning of a stop string.
size_t StopStrings::held_back() const {
  size_t longest = 0;
  for (const std::string& stop : stops_)
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > longest; --n)
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) longest = n;
  return longest;
}

}  // namespace lathe
