#include "text/tokenizer/charsmap.h"

#include "tensor/errors.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

// The fields of a unit of the double array (darts-clone, DoubleArrayUnit).
bool has_leaf(uint32_t unit) { return unit >> 8 & 1; }
uint32_t value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label(uint32_t unit) { return unit & 0x800000FF; }  // of a leaf: none that a byte equals
uint32_t offset(uint32_t unit) { return unit >> 10 << (unit >> 6 & 8); }
bool is_leaf(uint32_t unit) { return unit >> 31; }

// A rule of a published map has at most 18 characters (U+FDFA); beyond reason, a short text would fill the memory.
constexpr size_t kLongestReplacement = 1024;

uint32_t little_endian(std::string_view bytes) {
  uint32_t number = 0;
  for (size_t i = 4; i-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[i]);
  return number;
}

}  // namespace

Charsmap::Charsmap(std::string_view bytes) {
  constexpr const char* kWhere = "precompiled_charsmap";
  if (bytes.empty()) return;
  check(bytes.size() >= 4, kWhere, "{} bytes, expected at least 4", bytes.size());
  const size_t length = little_endian(bytes);
  check(length % 4 == 0 && length <= bytes.size() - 4, kWhere, "the trie has {} bytes, the whole {}", length,
        bytes.size());
  for (size_t i = 0; i < length; i += 4) units_.push_back(little_endian(bytes.substr(4 + i)));
  replacements_ = bytes.substr(4 + length);
  check(!first_invalid_utf8(replacements_), kWhere, "the replacements are not valid UTF-8");
  check(units_.empty() || !is_leaf(units_[0]), kWhere, "the trie's root is a leaf");
  for (uint32_t i = 0; i < units_.size(); ++i) {
    const uint32_t unit = units_[i];
    if (is_leaf(unit)) continue;
    const uint32_t children = i ^ offset(unit);
    check((children | 0xFF) < units_.size(), kWhere, "the children of node {} lie at {}, the trie has {} nodes", i,
          children, units_.size());
    if (!has_leaf(unit)) continue;
    const uint32_t at = value(units_[children]);
    check(at < replacements_.size() && begins_character(replacements_[at]), kWhere,
          "the replacement of node {} begins at byte {} of {}", i, at, replacements_.size());
    check(replacement(at).size() <= kLongestReplacement, kWhere, "the replacement of node {} has {} bytes, at most {}",
          i, replacement(at).size(), kLongestReplacement);
  }
}

template <class Found>
void Charsmap::each_prefix(std::string_view text, const Found& found) const {
  if (units_.empty()) return;
  uint32_t node = offset(units_[0]);
  for (size_t i = 0; i < text.size() && text[i] != 0; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    const uint32_t unit = units_[node];
    if (label(unit) != byte) return;
    node ^= offset(unit);
    if (has_leaf(unit) && !found(i + 1, value(units_[node]))) return;
  }
}

std::string_view Charsmap::replacement(uint32_t offset) const {
  const std::string_view rest = std::string_view(replacements_).substr(offset);
  return rest.substr(0, rest.find('\0'));
}

std::optional<Charsmap::Match> Charsmap::shortest(std::string_view text) const {
  std::optional<Match> match;
  each_prefix(text, [&](size_t length, uint32_t offset) {
    match = {length, replacement(offset)};
    return false;
  });
  return match;
}

std::optional<Charsmap::Match> Charsmap::longest(std::string_view text) const {
  size_t longest = 0;
  uint32_t at = 0;
  each_prefix(text, [&](size_t length, uint32_t offset) {
    // A rule that ends within a character would leave text that is no UTF-8.
    if (length < text.size() && !begins_character(text[length])) return true;
    longest = length;
    at = offset;
    return true;
  });
  if (longest == 0) return std::nullopt;
  return Match{longest, replacement(at)};
}

}  // namespace lathe
