#include "text/grammar/json_grammar.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "tensor/errors.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

constexpr char32_t kLastCharacter = 0x10ffff;
constexpr uint32_t kMostDigits = 18, kExactDigits = 15;

std::string as_json(const std::string& text) { return nlohmann::ordered_json(text).dump(); }

// What a string may hold unescaped.
CodePoints plain_characters() { return {{' ', '!'}, {'#', '['}, {']', 0xd7ff}, {0xe000, kLastCharacter}}; }

CodePoints common(const CodePoints& a, const CodePoints& b) {
  CodePoints both;
  for (const auto& [a_first, a_last] : a)
    for (const auto& [b_first, b_last] : b)
      if (std::max(a_first, b_first) <= std::min(a_last, b_last))
        both.emplace_back(std::max(a_first, b_first), std::min(a_last, b_last));
  return both;
}

std::string decimal(int64_t number) { return std::to_string(number); }

}  // namespace

CodePoints complement(CodePoints set) {
  std::sort(set.begin(), set.end());
  CodePoints others;
  char32_t next = 0;
  for (const auto& [first, last] : set) {
    if (first > next) others.emplace_back(next, first - 1);
    next = std::max<char32_t>(next, last + 1);
  }
  if (next <= kLastCharacter) others.emplace_back(next, kLastCharacter);
  return others;
}

GrammarPart JsonGrammar::named(std::optional<GrammarPart>& rule, const auto& meaning) {
  if (!rule) {
    rule = g_.rule();
    g_.define(*rule, meaning());
  }
  return *rule;
}

GrammarPart JsonGrammar::value() {
  return named(value_, [&] { return g_.any_of({string(), number({}), boolean(), null(), array(), object()}); });
}

GrammarPart JsonGrammar::array() { return list({}, value(), 0, Grammar::kUnbounded); }

GrammarPart JsonGrammar::object() {
  const GrammarPart any = g_.sequence({string(), g_.text(":"), g_.optional(g_.text(" ")), value()});
  const GrammarPart more = g_.repeat(g_.sequence({g_.text(","), gap(), any}), 0);
  return g_.any_of({g_.text("{}"), g_.sequence({g_.text("{"), gap(), any, more, gap(), g_.text("}")})});
}

GrammarPart JsonGrammar::string() {
  return named(string_, [&] { return g_.sequence({g_.text("\""), g_.repeat(any_character(), 0), g_.text("\"")}); });
}

GrammarPart JsonGrammar::quoted(GrammarPart content) {
  const GrammarPart rule = g_.rule();  // of its own, so that what may follow in it is kept by itself
  g_.define(rule, g_.sequence({g_.text("\""), content, g_.text("\"")}));
  return rule;
}

GrammarPart JsonGrammar::any_character() {
  const auto one_of = [&](std::string_view bytes) {
    ByteSet set;
    for (const char b : bytes) set.set(static_cast<uint8_t>(b));
    return g_.bytes(set);
  };
  const GrammarPart digit = one_of("0123456789abcdefABCDEF"), d = one_of("dD"), two = g_.repeat(digit, 2, 2);
  const GrammarPart alone =
      g_.any_of({g_.sequence({one_of("0123456789abcefABCEF"), digit, two}), g_.sequence({d, g_.bytes('0', '7'), two})});
  const GrammarPart pair = g_.sequence({d, one_of("89abAB"), two, g_.text("\\u"), d, one_of("cdefCDEF"), two});
  const GrammarPart escape = g_.any_of({one_of("\"\\/bfnrt"), g_.sequence({g_.text("u"), g_.any_of({alone, pair})})});
  return g_.any_of({characters_of(plain_characters()), g_.sequence({g_.text("\\"), escape})});
}

GrammarPart JsonGrammar::character(const CodePoints& set) {
  std::vector<std::string> escaped;
  for (char32_t c = 0; c < 128; ++c)
    if (!common(set, {{c, c}}).empty() && common(plain_characters(), {{c, c}}).empty()) {
      const std::string json = as_json(std::string(1, static_cast<char>(c)));
      escaped.push_back(json.substr(1, json.size() - 2));
    }
  const CodePoints plain = common(set, plain_characters());
  return escaped.empty() ? characters_of(plain) : g_.any_of({characters_of(plain), g_.one_of(std::move(escaped))});
}

GrammarPart JsonGrammar::characters_of(const CodePoints& set) {
  ByteSet ascii;
  std::vector<GrammarPart> parts;
  for (const auto& [first, last] : set) {
    for (char32_t c = first; c <= std::min<char32_t>(last, 0x7f); ++c) ascii.set(c);
    if (last > 0x7f) parts.push_back(utf8(std::max<char32_t>(first, 0x80), last));
  }
  if (ascii.any()) parts.insert(parts.begin(), g_.bytes(ascii));
  return g_.any_of(std::move(parts));
}

// Split until the bytes behind the first that differ run from their lowest to their highest value, each by itself.
GrammarPart JsonGrammar::utf8(char32_t first, char32_t last) {
  std::vector<std::pair<char32_t, char32_t>> open = {{first, last}};
  std::vector<GrammarPart> parts;
  while (!open.empty()) {
    const auto [low, high] = open.back();
    open.pop_back();
    char32_t border = 0;  // the first character of the upper part
    for (const char32_t length_ends : {0x80, 0x800, 0x10000})
      if (low < length_ends && high >= length_ends) border = length_ends;
    for (uint32_t bits = 6; bits <= 18 && border == 0; bits += 6) {
      const char32_t rest = (char32_t{1} << bits) - 1;
      if ((low | rest) == (high | rest)) break;
      if ((low & rest) != 0)
        border = (low | rest) + 1;
      else if ((high & rest) != rest)
        border = high & ~rest;
    }
    if (border != 0) {
      open.emplace_back(border, high);
      open.emplace_back(low, border - 1);
      continue;
    }
    std::string from, to;
    append_character(from, low);
    append_character(to, high);
    std::vector<GrammarPart> bytes;
    for (size_t i = 0; i < from.size(); ++i)
      bytes.push_back(g_.bytes(static_cast<uint8_t>(from[i]), static_cast<uint8_t>(to[i])));
    parts.push_back(g_.sequence(std::move(bytes)));
  }
  return g_.any_of(std::move(parts));
}

GrammarPart JsonGrammar::literal(const nlohmann::ordered_json& value) { return g_.text(value.dump()); }

// Numbers of equally many digits.
GrammarPart JsonGrammar::digits_between(const std::string& lowest, const std::string& highest) {
  const auto length = static_cast<uint32_t>(lowest.size());
  if (length == 0) return g_.text("");
  if (lowest == std::string(length, '0') && highest == std::string(length, '9')) return digits(length, length);
  const std::string low_rest = lowest.substr(1), high_rest = highest.substr(1);
  if (lowest[0] == highest[0]) return g_.sequence({g_.text(lowest.substr(0, 1)), digits_between(low_rest, high_rest)});
  std::vector<GrammarPart> parts = {
      g_.sequence({g_.text(lowest.substr(0, 1)), digits_between(low_rest, std::string(length - 1, '9'))}),
      g_.sequence({g_.text(highest.substr(0, 1)), digits_between(std::string(length - 1, '0'), high_rest)})};
  if (lowest[0] + 1 < highest[0])
    parts.push_back(g_.sequence({g_.bytes(static_cast<uint8_t>(lowest[0] + 1), static_cast<uint8_t>(highest[0] - 1)),
                                 g_.repeat(g_.bytes('0', '9'), length - 1, length - 1)}));
  return g_.any_of(std::move(parts));
}

// From 0 on.
GrammarPart JsonGrammar::natural(int64_t lowest, int64_t highest) {
  std::vector<GrammarPart> parts;
  const std::string low = decimal(lowest), high = decimal(highest);
  for (size_t length = low.size(); length <= high.size() && lowest <= highest; ++length)
    parts.push_back(digits_between(length == low.size() ? low : "1" + std::string(length - 1, '0'),
                                   length == high.size() ? high : std::string(length, '9')));
  return g_.any_of(std::move(parts));
}

GrammarPart JsonGrammar::integer(const NumberBounds& bounds) {
  const int64_t most = NumberBounds::kMostInteger;
  const int64_t low = std::clamp(bounds.lowest.value_or(-most), -most, most + 1);
  const int64_t high = std::clamp(bounds.highest.value_or(most), -most - 1, most);
  std::vector<GrammarPart> parts;
  if (high >= 0) parts.push_back(natural(std::max<int64_t>(low, 0), high));
  if (low < 0) parts.push_back(g_.sequence({g_.text("-"), natural(std::max<int64_t>(1, -high), -low)}));
  return g_.any_of(std::move(parts));
}

// From 0 on, with a lowest bound.
GrammarPart JsonGrammar::magnitude(const NumberBounds& b) {
  const int64_t low = *b.lowest, high = b.highest.value_or(NumberBounds::kMostInteger);
  if (low > high || (low == high && (b.above_lowest || b.below_highest))) return g_.any_of({});
  const auto before = static_cast<uint32_t>(decimal(b.highest.value_or(low)).size());
  const uint32_t behind = kExactDigits - before;
  const GrammarPart fraction = g_.optional(g_.sequence({g_.text("."), digits(1, behind)}));
  const uint32_t zeros = behind / 2;
  const GrammarPart more =
      g_.sequence({g_.text("."), g_.repeat(g_.text("0"), 0, zeros), g_.bytes('1', '9'), digits(0, behind - 1 - zeros)});
  const GrammarPart zero = g_.optional(g_.sequence({g_.text("."), g_.repeat(g_.text("0"), 1, behind)}));
  std::vector<GrammarPart> parts;
  if (low < high) parts.push_back(g_.sequence({g_.text(decimal(low)), b.above_lowest ? more : fraction}));
  if (low + 1 < high) parts.push_back(g_.sequence({natural(low + 1, high - 1), fraction}));
  if (!b.below_highest) parts.push_back(g_.sequence({g_.text(decimal(high)), zero}));
  return g_.any_of(std::move(parts));
}

GrammarPart JsonGrammar::number(const NumberBounds& b) {
  const GrammarPart minus = g_.text("-");
  if (!b.lowest && !b.highest) {
    const GrammarPart fraction = g_.sequence({g_.text("."), digits(1, kMostDigits)});
    const GrammarPart sign = g_.optional(g_.one_of({"+", "-"}));
    const GrammarPart exponent = g_.sequence({g_.one_of({"e", "E"}), sign, digits(1, 2)});
    return g_.sequence(
        {g_.optional(minus), natural(0, NumberBounds::kMostInteger), g_.optional(fraction), g_.optional(exponent)});
  }
  std::vector<GrammarPart> parts;
  if (b.highest.value_or(0) >= 0) {
    NumberBounds positive = b;
    positive.lowest = std::max<int64_t>(0, b.lowest.value_or(0));
    positive.above_lowest = b.above_lowest && *positive.lowest == b.lowest;
    parts.push_back(magnitude(positive));
  }
  if (b.lowest.value_or(-1) < 0) {  // mirrored; -0 is none
    NumberBounds negative;
    negative.lowest = std::max<int64_t>(0, -b.highest.value_or(0));
    negative.above_lowest = *negative.lowest == 0 || b.below_highest;
    if (b.lowest) negative.highest = -*b.lowest;
    negative.below_highest = b.above_lowest;
    parts.push_back(g_.sequence({minus, magnitude(negative)}));
  }
  return g_.any_of(std::move(parts));
}

GrammarPart JsonGrammar::gap() {
  const GrammarPart blanks = g_.any_of({g_.repeat(g_.text(" "), 0, 40), g_.repeat(g_.text("\t"), 0, 40)});
  return g_.any_of({g_.text(""), g_.text(" "), g_.sequence({g_.text("\n"), blanks})});
}

GrammarPart JsonGrammar::member(const std::string& name, GrammarPart value) {
  return g_.sequence({g_.text(as_json(name) + ":"), g_.optional(g_.text(" ")), value});
}

GrammarPart JsonGrammar::other_member(std::vector<std::string> names, GrammarPart value) {
  if (names.empty()) return g_.sequence({string(), g_.text(":"), g_.optional(g_.text(" ")), value});
  std::vector<std::u32string> read;
  for (const std::string& name : names) {
    std::u32string& characters_read = read.emplace_back();
    for (const auto& [code, bytes] : characters(name)) characters_read.push_back(code);
  }
  const GrammarPart rule = g_.rule();
  g_.define(rule, g_.sequence({g_.text("\""), rest_of_name(read, 0)}));
  return g_.sequence({rule, g_.text(":"), g_.optional(g_.text(" ")), value});
}

// Of a name whose first `read` characters are those of all of `names`: the rest, and the closing quotation mark.
GrammarPart JsonGrammar::rest_of_name(const std::vector<std::u32string>& names, size_t read) {
  check(read <= 256, "grammar", "a name of more than 256 characters beside other names");
  std::map<char32_t, std::vector<std::u32string>> longer;  // by the next character
  bool is_name = false;
  for (const std::u32string& name : names) {
    if (name.size() == read)
      is_name = true;
    else
      longer[name[read]].push_back(name);
  }
  CodePoints next;
  std::vector<GrammarPart> parts;
  for (const auto& [c, with] : longer) {
    next.emplace_back(c, c);
    parts.push_back(g_.sequence({character({{c, c}}), rest_of_name(with, read + 1)}));
  }
  const GrammarPart other = characters_of(common(complement(next), plain_characters()));
  parts.push_back(g_.sequence({other, g_.repeat(any_character(), 0), g_.text("\"")}));
  if (!is_name) parts.push_back(g_.text("\""));
  return g_.any_of(std::move(parts));
}

GrammarPart JsonGrammar::list(const std::vector<GrammarPart>& first, GrammarPart rest, uint32_t least, uint32_t most) {
  const GrammarPart comma = g_.sequence({g_.text(","), gap()}), end = g_.sequence({gap(), g_.text("]")});
  if (least > most) return g_.any_of({});
  if (most == 0) return g_.text("[]");
  const auto count = static_cast<uint32_t>(std::min<size_t>(first.size(), most));
  // What may follow when so many are written, from behind.
  const auto from = [&](uint32_t n) { return std::max(least, n) - n; };
  const GrammarPart more = g_.sequence({comma, rest});
  const uint32_t most_more = most == Grammar::kUnbounded ? most : most - std::max(count, 1u);
  GrammarPart tail = g_.sequence({g_.repeat(more, from(std::max(count, 1u)), most_more), end});
  for (uint32_t n = count; n > 1; --n) {
    const GrammarPart on = g_.sequence({comma, first[n - 1], tail});
    tail = least >= n ? on : g_.any_of({on, end});
  }
  const GrammarPart filled = g_.sequence({g_.text("["), gap(), count > 0 ? first[0] : rest, tail});
  return least > 0 ? filled : g_.any_of({g_.text("[]"), filled});
}

}  // namespace lathe
