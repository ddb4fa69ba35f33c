// Numbers and texts as a person or a page reads them.
#pragma once
#include <string>
#include <string_view>
#include <utility>

namespace lathe {

// 2,000 or 1.54M or 3e-4: at most four digits.
std::string short_number(double value);
// The factor that numbers up to `largest` are divided by, and its letter: k, M, B (billions), T.
std::pair<double, const char*> unit_of(double largest);
// 1,536,000
std::string with_commas(double value);
// "2 min 41 s"; empty where it is not a time.
std::string shown_time(double seconds);
// Text as a part of a page, or of an attribute in quotes.
std::string escape_html(std::string_view text);

}  // namespace lathe
