#include "text/unicode/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "tensor/errors.h"
#include "text/unicode/unicode_scripts.h"

namespace lathe {
namespace {

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

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

Utf8Head utf8_head(std::string_view bytes) {
  using Kind = Utf8Head::Kind;
  auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Kind::character, 1};
  size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;  // of the second byte: neither overlong, nor a surrogate, nor above U+10FFFF
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Kind::invalid, 1};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Kind::incomplete, i};
    if (byte(i) < low || byte(i) > high) return {Kind::invalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Kind::character, length};
}

std::optional<size_t> first_invalid_utf8(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    const Utf8Head head = utf8_head(bytes.substr(i));
    if (head.kind != Utf8Head::Kind::character) return i;
    i += head.length;
  }
  return std::nullopt;
}

void check_utf8(std::string_view text, const char* where) {
  if (auto offset = first_invalid_utf8(text))
    throw Error(fmt::format("{}: the text is not valid UTF-8: byte 0x{:02x} at offset {}", where,
                            static_cast<unsigned char>(text[*offset]), *offset));
}

size_t character_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

char32_t next_character(std::string_view text, size_t& position) {
  const size_t length = std::min(character_length(text[position]), text.size() - position);
  static constexpr unsigned char kLeadBits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  char32_t character = static_cast<unsigned char>(text[position]) & kLeadBits[length];
  for (size_t i = 1; i < length; ++i)
    character = character << 6 | (static_cast<unsigned char>(text[position + i]) & 0x3F);
  position += length;
  return character;
}

void append_character(std::string& text, char32_t character) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(character), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

std::string Utf8Repair::push(std::string_view bytes) {
  std::string joined;
  if (!pending_.empty()) {
    joined = pending_.append(bytes);
    pending_.clear();
    bytes = joined;
  }
  std::string result;
  while (!bytes.empty()) {
    const Utf8Head head = utf8_head(bytes);
    if (head.kind == Utf8Head::Kind::incomplete) {
      pending_ = bytes;
      break;
    }
    result.append(head.kind == Utf8Head::Kind::character ? bytes.substr(0, head.length) : kReplacement);
    bytes.remove_prefix(head.length);
  }
  return result;
}

std::string Utf8Repair::finish() {
  const bool broken = !pending_.empty();
  pending_.clear();
  return broken ? std::string(kReplacement) : std::string();
}

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

std::string lowercase(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const char32_t character = next_character(text, position);
    if (character == 0x130) {
      result += "i\xCC\x87";  // the only full lower-case mapping of more than one character (SpecialCasing.txt)
    } else {
      append_character(result, lowercase_of(character));
    }
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

bool is_mark(char32_t character) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(character));
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
}

bool is_nonspacing_mark(char32_t character) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(character)) == UTF8PROC_CATEGORY_MN;
}

bool is_punctuation(char32_t character) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(character));
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool is_control(char32_t character) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(character));
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO;
}

}  // namespace lathe
