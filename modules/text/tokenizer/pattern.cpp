#include "text/tokenizer/pattern.h"

#include <nlohmann/json.hpp>

#include "text/unicode/unicode.h"

namespace lathe {
namespace {

bool matches(const Regex& set, std::string_view character) {
  size_t begin = 0, end = 0;
  return Regex::Matches(set, character).next(begin, end);
}

bool is_word_character(std::string_view character) {
  static const Regex set("[\\w\\p{Join_Control}]");
  return matches(set, character);
}

}  // namespace

Regex make_pattern(const JsonNode& node) {
  try {
    if (node.has("String")) return Regex(node.at("String").string(), Regex::Syntax::literal);
    if (node.has("Regex")) return Regex(node.at("Regex").string());
  } catch (const Error& error) {
    node.fail(error.what());
  }
  node.fail("expected {\"String\": ...} or {\"Regex\": ...}");
}

std::string replace_all(std::string_view text, const Regex& pattern, std::string_view with) {
  std::string result;
  result.reserve(text.size() + text.size() / 8);
  Regex::Matches matches(pattern, text);
  const size_t limit = largest_rewritten(text.size());
  size_t begin = 0, end = 0, copied = 0;
  while (matches.next(begin, end)) {
    result.append(text.substr(copied, begin - copied)).append(with);
    copied = end;
    check(result.size() <= limit, "replace", "the text has grown to {} bytes, at most {}", result.size(), limit);
  }
  return result.append(text.substr(copied));
}

size_t white_space_before(std::string_view text, size_t end) {
  while (end > 0) {
    const size_t begin = previous_character(text, end);
    size_t position = begin;
    if (!is_white_space(next_character(text, position))) break;
    end = begin;
  }
  return end;
}

size_t white_space_behind(std::string_view text, size_t begin) {
  for (const auto [c, bytes] : characters(text.substr(begin))) {
    if (!is_white_space(c)) break;
    begin += bytes.size();
  }
  return begin;
}

bool word_character_before(std::string_view text, size_t position) {
  if (position == 0) return false;
  const size_t begin = previous_character(text, position);
  return is_word_character(text.substr(begin, position - begin));
}

bool word_character_at(std::string_view text, size_t position) {
  return position < text.size() && is_word_character(text.substr(position, character_length(text[position])));
}

}  // namespace lathe
