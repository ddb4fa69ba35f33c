#include "text/unicode/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "tensor/errors.h"
#include "text/unicode/unicode_scripts.h"

namespace lathe {
namespace {

// Canonical ordering. utf8proc's own loop exchanges neighbours, which is quadratic in the length of a run of marks: a
// megabyte of them, which anybody may send, would take minutes.
void order_marks(std::vector<utf8proc_int32_t>& characters) {
  auto combining_class = [](utf8proc_int32_t c) -> int {
    return assigned_in_unicode_9(static_cast<char32_t>(c)) ? utf8proc_get_property(c)->combining_class : 0;
  };
  for (size_t begin = 0; begin < characters.size();) {
    if (combining_class(characters[begin]) == 0) {
      ++begin;
      continue;
    }
    size_t end = begin + 1;
    while (end < characters.size() && combining_class(characters[end]) != 0) ++end;
    std::stable_sort(characters.begin() + begin, characters.begin() + end,
                     [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

void append_normalized(std::string& result, std::string_view text, NormalForm form) {
  const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const bool compose = form == NormalForm::nfc || form == NormalForm::nfkc;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | (compatible ? UTF8PROC_COMPAT : 0) |
                                                      (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const auto character = static_cast<utf8proc_int32_t>(next_character(text, position));
    utf8proc_int32_t parts[32];  // the longest decomposition, of U+FDFA, has 18 characters
    int boundary_state = 0;
    // `tokenizers` knows the decompositions of Unicode 9; what came later decomposes in none of its forms.
    if (!assigned_in_unicode_9(static_cast<char32_t>(character))) {
      characters.push_back(character);
      continue;
    }
    const auto count = utf8proc_decompose_char(character, parts, 32, options, &boundary_state);
    check(count >= 0 && count <= 32, "normalize", "U+{:04X}: {}", static_cast<uint32_t>(character),
          count < 0 ? utf8proc_errmsg(count) : "too long a decomposition");
    characters.insert(characters.end(), parts, parts + count);
  }
  order_marks(characters);
  auto count = static_cast<utf8proc_ssize_t>(characters.size());
  if (compose) count = utf8proc_normalize_utf32(characters.data(), count, options);
  for (utf8proc_ssize_t i = 0; i < count; ++i) append_character(result, static_cast<char32_t>(characters[i]));
}

}  // namespace

std::string normalize(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  auto ascii = [&](size_t i) { return static_cast<unsigned char>(text[i]) < 0x80; };
  // Between two ASCII characters nothing composes or reorders, so only the stretches round other characters, with the
  // ASCII character before them, need work.
  std::string result;
  result.reserve(text.size() + text.size() / 8);
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && ascii(end) && (end + 1 == text.size() || ascii(end + 1))) ++end;
    result.append(text.substr(i, end - i));
    i = end;
    while (end < text.size() && !(ascii(end) && end > i && (end + 1 == text.size() || ascii(end + 1)))) ++end;
    if (end > i) append_normalized(result, text.substr(i, end - i), form);
    i = end;
  }
  return result;
}

namespace {

// The lower-case letters of Unicode 16 and 17 that utf8proc may not know yet (UnicodeData.txt).
char32_t lowercase_of(char32_t character) {
  struct Range {
    char32_t first, last, lower;
  };
  static constexpr Range kNewer[] = {{0x1C89, 0x1C89, 0x1C8A},   {0xA7CB, 0xA7CB, 0x264},  {0xA7CC, 0xA7CC, 0xA7CD},
                                     {0xA7CE, 0xA7CE, 0xA7CF},   {0xA7D2, 0xA7D2, 0xA7D3}, {0xA7D4, 0xA7D4, 0xA7D5},
                                     {0xA7DA, 0xA7DA, 0xA7DB},   {0xA7DC, 0xA7DC, 0x19B},  {0x10D50, 0x10D65, 0x10D70},
                                     {0x16EA0, 0x16EB8, 0x16EBB}};
  if (character >= kNewer[0].first)
    for (const Range& range : kNewer)
      if (range.first <= character && character <= range.last) return range.lower + (character - range.first);
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character)));
}

}  // namespace

void append_in_case(std::string& text, char32_t c, LetterCase to) {
  if (c < 0x80) {
    const bool changes = to == LetterCase::lower ? c >= 'A' && c <= 'Z' : c >= 'a' && c <= 'z';
    text += static_cast<char>(changes ? c ^ 0x20 : c);
    return;
  }
  if (to == LetterCase::lower) {
    if (c == 0x130) text += "i\xCC\x87";  // i and a combining dot above
    if (c != 0x130) append_character(text, lowercase_of(c));
    return;
  }
  static constexpr std::pair<char32_t, std::string_view> kFull[] = {{0xDF, "SS"},   {0xFB00, "FF"},  {0xFB01, "FI"},
                                                                    {0xFB02, "FL"}, {0xFB03, "FFI"}, {0xFB04, "FFL"},
                                                                    {0xFB05, "ST"}, {0xFB06, "ST"}};
  for (const auto& [known, letters] : kFull)
    if (known == c) {
      text += letters[0];
      text += to == LetterCase::upper ? std::string(letters.substr(1)) : lowercase(letters.substr(1));
      return;
    }
  const auto code = static_cast<utf8proc_int32_t>(c);
  append_character(text,
                   static_cast<char32_t>(to == LetterCase::upper ? utf8proc_toupper(code) : utf8proc_totitle(code)));
}

std::string lowercase(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const auto [c, bytes] : characters(text)) append_in_case(result, c, LetterCase::lower);
  return result;
}

std::string fold_case(std::string_view text) {
  std::string result;
  for (const auto [c, bytes] : characters(text)) {
    utf8proc_int32_t parts[4];
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 4, UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < count; ++i) append_character(result, static_cast<char32_t>(parts[i]));
  }
  return result;
}

size_t grapheme_end(std::string_view text, size_t begin) {
  size_t end = begin;
  auto previous = static_cast<utf8proc_int32_t>(next_character(text, end));
  utf8proc_int32_t state = 0;
  while (end < text.size()) {
    const auto lead = static_cast<unsigned char>(text[end]);
    if (previous < 0x80 && lead < 0x80 && lead != '\n') break;  // nearly always
    size_t position = end;
    const auto character = static_cast<utf8proc_int32_t>(next_character(text, position));
    if (utf8proc_grapheme_break_stateful(previous, character, &state)) break;
    previous = character;
    end = position;
  }
  return end;
}

bool is_white_space(char32_t c) {
  return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_bert_ideograph(char32_t c) {
  // BERT's own list (google-research/bert, tokenization.py, _is_chinese_char), not a Unicode class; `tokenizers` begins
  // the fifth range at U+2B920 where BERT has U+2B820.
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

namespace {

// Whether the general category of a character is one of those from `first` to `last`, in the order of Unicode's list.
bool is_among(char32_t character, utf8proc_category_t first, utf8proc_category_t last) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(character));
  return category >= first && category <= last;
}

}  // namespace

bool is_letter(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO); }
bool is_uppercase(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LU); }
bool is_lowercase(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_LL, UTF8PROC_CATEGORY_LL); }
bool is_titlecase(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_LT, UTF8PROC_CATEGORY_LT); }
bool is_decimal(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_ND); }
bool is_numeric(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO); }
bool is_mark(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME); }
bool is_nonspacing_mark(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_MN); }
bool is_punctuation(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO); }
bool is_visible(char32_t c) { return is_among(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_SO); }
bool is_control(char32_t c) {
  return is_among(c, UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CF) ||
         is_among(c, UTF8PROC_CATEGORY_CO, UTF8PROC_CATEGORY_CO);
}

}  // namespace lathe
