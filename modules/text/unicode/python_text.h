// Text as Python's `str` sees it, whose classes and letter case differ from Unicode's in places. All text is valid
// UTF-8.
#pragma once
#include <string>
#include <string_view>

namespace lathe::python {

bool is_space(char32_t character);       // str.isspace, and what str.strip() and `\s` take
bool is_line_break(char32_t character);  // where str.splitlines() splits ("\r\n" counts once)
bool is_digit(char32_t character);       // str.isdigit: decimals, superscripts and circled digits
bool is_printable(char32_t character);   // what repr() leaves as it is: of the separators the space alone
bool is_word(char32_t character);        // what a name is made of, and `\w` takes

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);  // the first character in title case, the rest lower
std::string title(std::string_view text);       // title case behind anything that has no case, else lower

enum class Side { left, right, both };
// Without `removed` strips white space, else any of the characters in it.
std::string_view strip(std::string_view text, Side side, const std::string* removed = nullptr);

}  // namespace lathe::python
