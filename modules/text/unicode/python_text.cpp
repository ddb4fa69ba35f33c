#include "text/unicode/python_text.h"

#include "text/unicode/unicode.h"

namespace lathe::python {
namespace {

bool has_case(char32_t c) { return is_uppercase(c) || is_lowercase(c) || is_titlecase(c); }

// One character of `text`, at `position`, in lower case: a capital sigma that ends a word becomes a final one.
void append_lower(std::string& result, std::string_view text, const Character& character) {
  const auto begin = static_cast<size_t>(character.bytes.data() - text.data());
  size_t before = begin > 0 ? previous_character(text, begin) : 0, after = begin + character.bytes.size();
  constexpr char32_t capital_sigma = 0x3A3;
  const bool ends_word = character.code == capital_sigma && begin > 0 && has_case(next_character(text, before)) &&
                         (after == text.size() || !has_case(next_character(text, after)));
  if (ends_word)
    result += "\u03c2";
  else
    append_in_case(result, character.code, LetterCase::lower);
}

}  // namespace

bool is_space(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

bool is_line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_digit(char32_t c) {
  return is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0x2070 && c <= 0x2089) ||
         (c >= 0x2460 && c <= 0x2468);
}

bool is_printable(char32_t c) { return c == ' ' || is_visible(c); }

bool is_word(char32_t c) { return is_letter(c) || is_numeric(c) || is_mark(c) || c == '_'; }

std::string upper(std::string_view text) {
  std::string result;
  for (const auto [c, bytes] : characters(text)) append_in_case(result, c, LetterCase::upper);
  return result;
}

std::string lower(std::string_view text) {
  std::string result;
  for (const Character c : characters(text)) append_lower(result, text, c);
  return result;
}

std::string capitalize(std::string_view text) {
  std::string result;
  for (const Character c : characters(text))
    if (c.bytes.data() == text.data())
      append_in_case(result, c.code, LetterCase::title);
    else
      append_lower(result, text, c);
  return result;
}

std::string title(std::string_view text) {
  std::string result;
  bool within_word = false;
  for (const Character c : characters(text)) {
    if (within_word)
      append_lower(result, text, c);
    else
      append_in_case(result, c.code, LetterCase::title);
    within_word = has_case(c.code);
  }
  return result;
}

std::string_view strip(std::string_view text, Side side, const std::string* removed) {
  const auto strips = [&](std::string_view character) {
    size_t start = 0;
    // A whole character cannot match in the middle of another: UTF-8 is self-synchronising.
    return removed ? removed->find(character) != std::string::npos : is_space(next_character(character, start));
  };
  while (side != Side::right && !text.empty() && strips(text.substr(0, character_length(text[0]))))
    text.remove_prefix(character_length(text[0]));
  while (side != Side::left && !text.empty()) {
    const size_t last = previous_character(text, text.size());
    if (!strips(text.substr(last))) break;
    text = text.substr(0, last);
  }
  return text;
}

}  // namespace lathe::python
