#include "text/unicode/utf8.h"

#include <utf8proc.h>

#include <algorithm>

#include "tensor/errors.h"

namespace lathe {

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

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
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

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

size_t character_offset(std::string_view text, size_t index) {
  size_t position = 0;
  for (; index > 0 && position < text.size(); --index) position += character_length(text[position]);
  return std::min(position, text.size());
}

size_t previous_character(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && !begins_character(text[begin])) --begin;
  return begin;
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

}  // namespace lathe
