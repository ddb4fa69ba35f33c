// UTF-8 text as Python's `str` sees it: code points, white space, line breaks, letter case, character classes.
//
// Classes and case mappings come from PCRE2's Unicode tables. Python maps case in full ("ß".upper() is "SS"), PCRE2 one
// code point to one: the German sharp s, the Latin ligatures, the dotted capital I and the final sigma are mapped here,
// the other entries of Unicode's SpecialCasing.txt (Armenian, polytonic Greek) are not. All text must be valid UTF-8.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace lathe::jinja {

// The offset of the first byte that is no valid UTF-8, or text.size().
std::size_t valid_utf8_prefix(std::string_view text);

// The code point at byte `position`, which moves past it.
char32_t next_code_point(std::string_view text, std::size_t& position);
void append_code_point(std::string& text, char32_t code_point);
std::size_t count_code_points(std::string_view text);

// text.find(part, from) and text.rfind(part), whose cost grows with the text alone: that of std::string grows with the
// product of both lengths, which a template could choose. The second charges the budget for what it compares.
std::size_t find_text(std::string_view text, std::string_view part, std::size_t from = 0);
std::size_t find_last_text(std::string_view text, std::string_view part);

bool is_space(char32_t code_point);       // str.isspace, and what str.strip() and `\s` take
bool is_line_break(char32_t code_point);  // where str.splitlines() splits ("\r\n" counts once)

enum class CharacterClass { letter, uppercase, lowercase, titlecase, decimal, digit, numeric, printable, word };
bool is_in_class(char32_t code_point, CharacterClass character_class);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string fold_case(std::string_view text);   // str.casefold: "ß" is "ss"
std::string capitalize(std::string_view text);  // first code point upper, the rest lower
std::string title(std::string_view text);       // str.title: upper after anything that has no case, else lower
std::string swap_case(std::string_view text);

enum class Side { left, right, both };
// Without `characters` strips white space, else any of the code points in it.
std::string_view strip(std::string_view text, Side side, const std::string* characters = nullptr);

}  // namespace lathe::jinja
