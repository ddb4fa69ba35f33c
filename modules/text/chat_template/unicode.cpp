// Unicode for the template language; see the header. ASCII never reaches PCRE2.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/chat_template/unicode.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstring>
#include <memory>

#include "tensor/errors.h"
#include "text/chat_template/budget.h"

namespace lathe::jinja {
namespace {

bool is_ascii(std::string_view text) {
  for (const char character : text)
    if (static_cast<unsigned char>(character) >= 0x80) return false;
  return true;
}

// A compiled pattern with the memory of one match; one a thread, because matching writes to the latter.
class Pattern {
 public:
  explicit Pattern(const char* source) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source), PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP | PCRE2_DOTALL, &error, &offset, nullptr));
    check(code_ != nullptr, "chat template", "PCRE2 without Unicode (error {} in {})", error, source);
    match_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  }

  bool matches(std::string_view text) const {
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                       PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, match_.get(), nullptr) > 0;
  }

  // Every match replaced, in PCRE2's extended syntax, which has \U and \L for case.
  std::string substitute(std::string_view text, const char* replacement) const {
    std::string result(text.size() * 3 + 16, '\0');  // no simple case mapping makes a code point three times as long
    PCRE2_SIZE length = result.size();
    const int count = pcre2_substitute(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                                       PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_EXTENDED | PCRE2_NO_UTF_CHECK,
                                       match_.get(), nullptr, reinterpret_cast<PCRE2_SPTR>(replacement),
                                       PCRE2_ZERO_TERMINATED, reinterpret_cast<PCRE2_UCHAR*>(result.data()), &length);
    check(count >= 0, "chat template", "PCRE2 cannot change the case of a text (error {})", count);
    result.resize(length);
    return result;
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_data, Free> match_;
};

constexpr std::size_t class_count = 9;

// Whether each code point is in a class, asked of PCRE2 once for the 256 code points of a page, when the first of them
// is needed: a match takes a fifth of a microsecond, and templates look at every character of a text.
class ClassTable {
 public:
  bool contains(char32_t code_point, CharacterClass character_class) {
    std::unique_ptr<Page>& page = pages_[static_cast<std::size_t>(character_class)][code_point >> 8];
    if (!page) page = make_page(code_point >> 8, character_class);
    return page->test(code_point & 0xFF);
  }

 private:
  using Page = std::bitset<256>;

  std::unique_ptr<Page> make_page(char32_t number, CharacterClass character_class) {
    auto page = std::make_unique<Page>();
    for (char32_t i = 0; i < 256; ++i) {
      const char32_t code_point = number << 8 | i;
      if (code_point >= 0xD800 && code_point < 0xE000) continue;
      std::string text;
      append_code_point(text, code_point);
      page->set(i, patterns_[static_cast<std::size_t>(character_class)].matches(text));
    }
    return page;
  }

  // In the order of the enumeration. Python: isdigit has superscripts and circled digits, which are no decimals.
  const std::array<Pattern, class_count> patterns_ = {
      Pattern("\\p{L}"),
      Pattern("\\p{Lu}"),
      Pattern("\\p{Ll}"),
      Pattern("\\p{Lt}"),
      Pattern("\\p{Nd}"),
      Pattern("[\\p{Nd}\\x{b2}\\x{b3}\\x{b9}\\x{2070}-\\x{2089}\\x{2460}-\\x{2468}]"),
      Pattern("\\p{N}"),
      Pattern("[^\\p{C}\\p{Z}]"),
      Pattern("[\\p{L}\\p{N}\\p{M}_]")};
  std::array<std::array<std::unique_ptr<Page>, (0x110000 >> 8)>, class_count> pages_;
};

bool is_in_class_ascii(char character, CharacterClass character_class) {
  const bool is_upper = character >= 'A' && character <= 'Z', is_lower = character >= 'a' && character <= 'z';
  const bool is_decimal = character >= '0' && character <= '9';
  switch (character_class) {
    case CharacterClass::letter: return is_upper || is_lower;
    case CharacterClass::uppercase: return is_upper;
    case CharacterClass::lowercase: return is_lower;
    case CharacterClass::titlecase: return false;
    case CharacterClass::decimal:
    case CharacterClass::digit:
    case CharacterClass::numeric: return is_decimal;
    case CharacterClass::printable: return character >= ' ' && character < 0x7f;
    case CharacterClass::word: return is_upper || is_lower || is_decimal || character == '_';
  }
  return false;
}

bool has_case(char32_t code_point) {
  return is_in_class(code_point, CharacterClass::uppercase) || is_in_class(code_point, CharacterClass::lowercase) ||
         is_in_class(code_point, CharacterClass::titlecase);
}

// The full upper-case forms of what PCRE2 would leave alone.
std::string_view special_upper(char32_t code_point) {
  switch (code_point) {
    case 0xDF: return "SS";
    case 0xFB00: return "FF";
    case 0xFB01: return "FI";
    case 0xFB02: return "FL";
    case 0xFB03: return "FFI";
    case 0xFB04: return "FFL";
    case 0xFB05:
    case 0xFB06: return "ST";
    default: return {};
  }
}

constexpr char32_t capital_sigma = 0x3A3, dotted_capital_i = 0x130;

// In pieces, because the buffer for the result is three times as long as the text.
std::string simple_case(std::string_view text, const char* replacement) {
  constexpr std::size_t piece_size = 4096;
  thread_local const Pattern everything(".+");
  std::string result;
  while (!text.empty()) {
    std::size_t end = std::min(piece_size, text.size());
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    result += everything.substitute(text.substr(0, end), replacement);
    text.remove_prefix(end);
  }
  return result;
}

}  // namespace

std::size_t valid_utf8_prefix(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  std::size_t position = 0;
  while (position < text.size()) {
    const unsigned lead = byte(position);
    std::size_t length = 1;
    if (lead >= 0x80) {
      if (lead < 0xC2 || lead > 0xF4) return position;
      length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
      const unsigned second = byte(position + 1);  // its range excludes overlong forms, surrogates, and beyond U+10FFFF
      const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
      const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
      if (second < low || second > high) return position;
      for (std::size_t i = 2; i < length; ++i)
        if ((byte(position + i) & 0xC0) != 0x80) return position;
    }
    position += length;
  }
  return text.size();
}

char32_t next_code_point(std::string_view text, std::size_t& position) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<char32_t>(static_cast<unsigned char>(text[i])) : 0;
  };
  const char32_t lead = byte(position);
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t code_point = length == 1 ? lead : lead & (0xFF >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) code_point = code_point << 6 | (byte(position + i) & 0x3F);
  position += length;
  return code_point;
}

void append_code_point(std::string& text, char32_t code_point) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (code_point >> shift & 0x3F)); };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xC0 | code_point >> 6);
    tail(0);
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xE0 | code_point >> 12);
    tail(6), tail(0);
  } else {
    text += static_cast<char>(0xF0 | code_point >> 18);
    tail(12), tail(6), tail(0);
  }
}

std::size_t count_code_points(std::string_view text) {
  std::size_t count = 0;
  for (const char character : text) count += (static_cast<unsigned char>(character) & 0xC0) != 0x80;
  return count;
}

std::size_t find_text(std::string_view text, std::string_view part, std::size_t from) {
  if (from > text.size()) return text.npos;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());  // two-way in glibc
  return found ? static_cast<std::size_t>(static_cast<const char*>(found) - text.data()) : text.npos;
}

std::size_t find_last_text(std::string_view text, std::string_view part) {
  if (part.size() > text.size()) return text.npos;
  for (std::size_t at = text.size() - part.size() + 1; at-- > 0;) {
    const auto differs = std::mismatch(part.begin(), part.end(), text.begin() + static_cast<std::ptrdiff_t>(at)).first;
    if (differs == part.end()) return at;
    if (differs - part.begin() >= 64) charge_text(static_cast<std::size_t>(differs - part.begin()));
  }
  return text.npos;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_in_class(char32_t code_point, CharacterClass character_class) {
  if (code_point < 0x80) return is_in_class_ascii(static_cast<char>(code_point), character_class);
  // 300 KB of empty pages, on the heap so that a thread that never sees such a character has none.
  thread_local const auto table = std::make_unique<ClassTable>();
  return table->contains(code_point, character_class);
}

std::string upper(std::string_view text) {
  std::string result(text);
  if (is_ascii(text)) {
    for (char& character : result)
      if (character >= 'a' && character <= 'z') character = static_cast<char>(character - 'a' + 'A');
    return result;
  }
  charge_unicode(text.size());
  result.clear();
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    const std::string_view special = special_upper(next_code_point(text, position));
    result += special.empty() ? text.substr(begin, position - begin) : special;
  }
  return simple_case(result, "\\U$0");
}

std::string lower(std::string_view text) {
  std::string result(text);
  if (is_ascii(text)) {
    for (char& character : result)
      if (character >= 'A' && character <= 'Z') character = static_cast<char>(character - 'A' + 'a');
    return result;
  }
  charge_unicode(text.size());
  result.clear();
  bool after_letter = false;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    const char32_t code_point = next_code_point(text, position);
    std::size_t following = position;
    const bool before_letter = position < text.size() && has_case(next_code_point(text, following));
    if (code_point == capital_sigma && after_letter && !before_letter)
      result += "ς";
    else if (code_point == dotted_capital_i)
      result += "i\xCC\x87";  // i and a combining dot above
    else
      result += text.substr(begin, position - begin);
    after_letter = has_case(code_point);
  }
  return simple_case(result, "\\L$0");
}

std::string fold_case(std::string_view text) {
  charge_unicode(text.size());
  std::string result;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    const char32_t code_point = next_code_point(text, position);
    const std::string_view special = special_upper(code_point);
    if (!special.empty())
      result += lower(special);
    else if (code_point == capital_sigma || code_point == 0x3C2)  // no final sigma
      result += "σ";
    else if (code_point == 0x17F)  // the long s
      result += "s";
    else
      result += text.substr(begin, position - begin);
  }
  return lower(result);
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  std::size_t first = 0;
  next_code_point(text, first);
  return upper(text.substr(0, first)) + lower(text.substr(first));
}

std::string title(std::string_view text) {
  charge_unicode(text.size());
  std::string result;
  bool within_word = false;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    const char32_t code_point = next_code_point(text, position);
    const std::string_view character = text.substr(begin, position - begin);
    result += within_word ? lower(character) : upper(character);
    within_word = has_case(code_point);
  }
  return result;
}

std::string swap_case(std::string_view text) {
  charge_unicode(text.size());
  std::string result;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    const bool was_upper = is_in_class(next_code_point(text, position), CharacterClass::uppercase);
    const std::string_view character = text.substr(begin, position - begin);
    result += was_upper ? lower(character) : upper(character);
  }
  return result;
}

std::string_view strip(std::string_view text, Side side, const std::string* characters) {
  const auto strips = [&](std::string_view character) {
    std::size_t start = 0;
    // A whole code point cannot match in the middle of another: UTF-8 is self-synchronising.
    return characters ? characters->find(character) != std::string::npos : is_space(next_code_point(character, start));
  };
  std::size_t begin = 0, end = text.size();
  while (side != Side::right && begin < end) {
    std::size_t next = begin;
    next_code_point(text, next);
    if (!strips(text.substr(begin, next - begin))) break;
    begin = next;
  }
  while (side != Side::left && begin < end) {
    std::size_t previous = end - 1;
    while (previous > begin && (static_cast<unsigned char>(text[previous]) & 0xC0) == 0x80) --previous;
    if (!strips(text.substr(previous, end - previous))) break;
    end = previous;
  }
  return text.substr(begin, end - begin);
}

}  // namespace lathe::jinja
