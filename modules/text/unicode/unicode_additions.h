// The characters that Unicode 15, 15.1 and 16 assigned (UnicodeData.txt), by general category.
//
// Oniguruma, whose classes `tokenizers` splits by, knows Unicode 16; the PCRE2 of today's long-term distributions knows
// 14. Emoji of 2022 and later would be split otherwise: patterns name these ranges besides the property.
#pragma once
#include <cstdint>
#include <span>

namespace lathe {

struct UnicodeAddition {
  char32_t first, last;
  const char* category;  // "Lo", "Nd", ...
};

std::span<const UnicodeAddition> unicode_additions();

}  // namespace lathe
