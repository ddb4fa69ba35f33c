// Marks in text that comes piece by piece.
#pragma once
#include <algorithm>
#include <string_view>

namespace lathe {

inline constexpr std::string_view kSpace = " \t\r\n";

// Bytes at the end of `text` that may be the beginning of `mark`.
inline size_t begun(std::string_view text, std::string_view mark) {
  for (size_t n = std::min(text.size(), mark.size() - 1); n > 0; --n)
    if (text.ends_with(mark.substr(0, n))) return n;
  return 0;
}

}  // namespace lathe
