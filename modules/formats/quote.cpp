// See quote.h.
#include "formats/quote.h"

#include <fmt/format.h>

namespace lathe {

std::string quote(std::string_view text) {
  constexpr size_t kShown = 120;
  std::string out = "'";
  for (const char c : text.substr(0, kShown)) {
    if (c >= 0x20 && c < 0x7f)
      out += c;
    else
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return out + (text.size() > kShown ? "...'" : "'");
}

}  // namespace lathe
