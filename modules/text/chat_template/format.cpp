// Formatting: printf-style, str.format, JSON and dates; see the header.
#include "text/chat_template/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/chat_template/builtins.h"
#include "text/chat_template/operators.h"
#include "text/unicode/python_text.h"

namespace lathe::jinja {
namespace {

// The mini-language of format() and of printf-style formatting have these in common.
struct Specification {
  std::string fill = " ";
  char align = '\0';  // '<', '>', '^', '=', or none: numbers to the right, all else to the left
  char sign = '-';
  bool alternate = false;
  std::int64_t width = 0;
  char grouping = '\0';
  std::int64_t precision = -1;
  char type = '\0';
};

bool is_one_of(char c, std::string_view all) { return c != '\0' && all.find(c) != all.npos; }

constexpr std::int64_t maximum_width = 1 << 20, maximum_precision = 1000;

std::string pad(std::string_view text, const Specification& spec, char default_align, std::size_t sign_length = 0) {
  const std::int64_t missing = spec.width - static_cast<std::int64_t>(count_characters(text));
  if (missing <= 0) return std::string(text);
  const char align = spec.align ? spec.align : default_align;
  const std::int64_t before = align == '<' || align == '=' ? 0 : align == '^' ? missing / 2 : missing;
  const auto fill = [&](std::int64_t count) {
    std::string result;
    for (std::int64_t i = 0; i < count; ++i) result += spec.fill;
    return result;
  };
  if (align == '=')
    return std::string(text.substr(0, sign_length)) + fill(missing) + std::string(text.substr(sign_length));
  return fill(before) + std::string(text) + fill(missing - before);
}

std::string group_digits(std::string digits, char separator, std::size_t size) {
  const std::size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  for (std::size_t i = whole; i > size;) digits.insert(i -= size, 1, separator);
  return digits;
}

// Sign, prefix and digits of a number, padded.
std::string finish_number(bool is_negative, std::string_view prefix, std::string digits, const Specification& spec) {
  if (spec.grouping) digits = group_digits(std::move(digits), spec.grouping, is_one_of(spec.type, "xXob") ? 4 : 3);
  std::string head = is_negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  head += prefix;
  return pad(head + digits, spec, '>', head.size());
}

std::string format_integer(std::int64_t value, const Specification& spec) {
  const std::uint64_t magnitude = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  const bool is_binary = is_one_of(spec.type, "xXob");
  std::string digits =
      is_binary ? fmt::format(fmt::runtime(std::string("{:") + spec.type + "}"), magnitude) : std::to_string(magnitude);
  if (spec.precision > static_cast<std::int64_t>(digits.size()))
    digits.insert(0, static_cast<std::size_t>(spec.precision) - digits.size(), '0');
  return finish_number(value < 0, is_binary && spec.alternate ? std::string{'0', spec.type} : "", digits, spec);
}

std::string format_real(double value, const Specification& spec) {
  const double magnitude = std::abs(value);
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  std::string digits;
  if (!std::isfinite(magnitude)) {
    digits = std::isnan(magnitude) ? "nan" : "inf";
  } else if (spec.type == '\0') {
    digits = spec.precision < 0 ? real_text(magnitude) : fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
    if (spec.precision >= 0 && digits.find_first_of(".e") == std::string::npos) digits += ".0";
  } else if (spec.type == '%') {
    digits = fmt::format("{:.{}f}%", magnitude * 100, precision);
  } else {
    const char lower_type = static_cast<char>(spec.type | 0x20);
    const std::string form = std::string("{:") + (spec.alternate ? "#" : "") + ".{}" + lower_type + "}";
    digits = fmt::format(fmt::runtime(form), magnitude, lower_type == 'g' ? std::max(precision, 1) : precision);
  }
  if (is_one_of(spec.type, "EFG")) digits = python::upper(digits);
  return finish_number(std::signbit(value) && !std::isnan(value), "", digits, spec);
}

// What ascii() makes of a value.
std::string ascii_representation(const Value& value) {
  std::string result;
  const std::string text = representation(value);
  for (const auto [c, bytes] : characters(text)) result += c < 0x80 ? std::string(bytes) : ascii_escape(c);
  return result;
}

std::string format_string(std::string_view text, const Specification& spec) {
  const bool is_cut = spec.precision >= 0;
  return pad(is_cut ? text.substr(0, character_offset(text, static_cast<std::size_t>(spec.precision))) : text, spec,
             '<');
}

// Reads a format from left to right.
struct FormatReader {
  std::string_view text;
  std::size_t position = 0;

  // The next character where it is one of these, which is then read; else none.
  char take(std::string_view any_of) {
    return position < text.size() && is_one_of(text[position], any_of) ? text[position++] : '\0';
  }
  // Digits, or -1 where there are none.
  std::int64_t take_count(std::int64_t maximum, const char* what) {
    std::int64_t count = -1;
    while (const char digit = take("0123456789")) {
      count = std::max<std::int64_t>(count, 0) * 10 + (digit - '0');
      if (count > maximum) fail("the {} in a format is more than {}", what, maximum);
    }
    return count;
  }
  std::string_view take_until(std::string_view any_of) {
    const std::size_t begin = position;
    position = std::min(text.find_first_of(any_of, begin), text.size());
    return text.substr(begin, position - begin);
  }
};

// The arguments of a printf-style format, in order or by name.
struct PercentArguments {
  const Value& given;
  const std::size_t count = given.is_tuple() ? given.items().size() : 1;
  std::size_t used = 0;
  bool by_name = false;

  Value next() {
    if (used >= count) fail("not enough arguments for format string");
    return ++used, given.is_tuple() ? given.items()[used - 1] : given;
  }
  Value named(std::string_view name) {
    if (!given.is_dict()) fail("format requires a mapping");
    by_name = true;
    const Value* value = given.dict().find_text(name);
    if (!value) fail("the format's mapping has no '{}'", name);
    return *value;
  }
  void require_all_used() const {
    const bool may_stay = given.is_dict() || given.is_undefined() || given.kind() == Kind::sequence;
    if (used < count && !by_name && (given.is_tuple() || !may_stay))
      fail("not all arguments converted during string formatting");
  }
};

std::string convert_percent(const Value& value, Specification spec) {
  switch (spec.type) {
    case 's': return format_string(to_text(value), spec);
    case 'r': return format_string(representation(value), spec);
    case 'a': return format_string(ascii_representation(value), spec);
    case 'c': return as_integer(value) ? pad(character_text(value), spec, '>') : format_string(to_text(value), spec);
    default: break;
  }
  if (!is_number(value)) fail("%{} format: a number is required, not {}", spec.type, type_name(value));
  if (is_one_of(spec.type, "eEfFgG")) return format_real(as_real(value), spec);
  if (value.kind() == Kind::real && (!std::isfinite(value.real()) || std::abs(value.real()) >= 9.2e18))
    fail("%{} format: {} is no 64-bit integer", spec.type, real_text(value.real()));
  return format_integer(value.kind() == Kind::real ? static_cast<std::int64_t>(value.real()) : *as_integer(value),
                        spec);
}

// One conversion such as "%-5.1f", behind its percent sign.
std::string format_conversion(FormatReader& in, PercentArguments& arguments) {
  Specification spec;
  std::optional<Value> value;
  if (in.take("(")) {
    value = arguments.named(in.take_until(")"));
    if (!in.take(")")) fail("incomplete format key");
  }
  while (const char flag = in.take("-+ #0")) {
    if (flag == '-') spec.align = '<', spec.fill = " ";
    if (flag == '0' && !spec.align) spec.align = '=', spec.fill = "0";
    if (flag == '+' || (flag == ' ' && spec.sign != '+')) spec.sign = flag;
    if (flag == '#') spec.alternate = true;
  }
  const auto take_count = [&](std::int64_t maximum, const char* what) {
    if (!in.take("*")) return std::max<std::int64_t>(in.take_count(maximum, what), 0);
    const auto given = as_integer(arguments.next());
    if (!given || *given < 0 || *given > maximum) fail("the {} of a format is not an integer up to {}", what, maximum);
    return *given;
  };
  spec.width = take_count(maximum_width, "width");
  if (in.take(".")) spec.precision = take_count(maximum_precision, "precision");
  while (in.take("hlL")) {}
  if (in.position == in.text.size()) fail("incomplete format");
  spec.type = in.take("diouxXeEfFgGcrsa%");
  if (spec.type == '%') return "%";
  if (!spec.type) fail("unsupported format character '{}'", in.text[in.position]);
  if (spec.align == '=' && is_one_of(spec.type, "crsa")) spec.align = '>', spec.fill = " ";
  if (spec.align == '\0') spec.align = '>';
  return convert_percent(value ? *value : arguments.next(), spec);
}

Specification parse_specification(std::string_view text) {
  constexpr std::string_view alignments = "<>^=";
  Specification spec;
  FormatReader in{text};
  const std::size_t first = text.empty() ? 0 : character_length(text[0]);  // any character, where an alignment follows
  if (first < text.size() && is_one_of(text[first], alignments)) {
    spec.fill = text.substr(0, first);
    in.position = first;
  }
  spec.align = in.take(alignments);
  if (const char sign = in.take("+- ")) spec.sign = sign;
  spec.alternate = in.take("#") != '\0';
  if (in.take("0") && !spec.align) spec.align = '=', spec.fill = "0";
  spec.width = std::max<std::int64_t>(in.take_count(maximum_width, "width"), 0);
  spec.grouping = in.take(",_");
  if (in.take(".") && (spec.precision = in.take_count(maximum_precision, "precision")) < 0)
    fail("format specifier missing precision");
  spec.type = in.take("bcdeEfFgGnosxX%");
  if (in.position != text.size()) fail("invalid format specifier '{}'", text);
  return spec;
}

std::string format_value(const Value& value, std::string_view specification) {
  if (specification.empty()) return to_text(value);
  Specification spec = parse_specification(specification);
  const bool is_real_type = is_one_of(spec.type, "eEfFgG%"), is_integer_type = is_one_of(spec.type, "bcdnoxX");
  if (value.is_string()) {
    if (is_real_type || is_integer_type) fail("unknown format code '{}' for a string", spec.type);
    if (spec.align == '=') spec.align = '<';
    return format_string(value.text(), spec);
  }
  if (!is_number(value)) fail("unsupported format string '{}' for {}", specification, type_name(value));
  if (spec.type == 's' || (value.kind() == Kind::real && is_integer_type))
    fail("unknown format code '{}' for {}", spec.type, type_name(value));
  if (value.kind() == Kind::real || is_real_type) return format_real(as_real(value), spec);
  if (spec.precision >= 0) fail("precision not allowed in an integer format specifier");
  if (spec.type == 'c') return pad(character_text(value), spec, '<');
  return format_integer(*as_integer(value), spec);
}

class BraceFormatter {
 public:
  explicit BraceFormatter(const Arguments& arguments) : arguments_(arguments) {}

  std::string format(std::string_view text, int depth = 0) {
    if (depth > 1) fail("max string recursion exceeded in a format");
    TextBuilder output;
    FormatReader in{text};
    while (in.position < text.size()) {
      output.append(in.take_until("{}"));
      const char brace = in.take("{}");
      if (brace && in.take({&brace, 1}))  // doubled
        output.append(1, brace);
      else if (brace == '{')
        output.append(field(in, depth));
      else if (brace == '}')
        fail("single '}}' encountered in format string");
    }
    return output.take();
  }

 private:
  // One field, behind its opening brace.
  std::string field(FormatReader& in, int depth) {
    const std::size_t begin = in.position;
    for (int open = 1; open > 0;) {
      in.take_until("{}");
      const char brace = in.take("{}");
      if (!brace) fail("expected '}}' before end of string");
      open += brace == '{' ? 1 : -1;
    }
    const std::string_view inside = in.text.substr(begin, in.position - 1 - begin);
    const std::size_t colon = std::min(inside.find(':'), inside.size());
    std::string_view name = inside.substr(0, colon);
    char conversion = '\0';
    if (const std::size_t mark = name.find('!'); mark != name.npos) {
      if (mark + 2 != name.size()) fail("expected ':' after conversion specifier");
      conversion = name[mark + 1];
      name = name.substr(0, mark);
    }
    Value value = resolve(name);
    switch (conversion) {
      case '\0': break;
      case 's': value = to_text(value); break;
      case 'r': value = representation(value); break;
      case 'a': value = ascii_representation(value); break;
      default: fail("unknown conversion specifier '{}'", conversion);
    }
    return format_value(value, colon < inside.size() ? format(inside.substr(colon + 1), depth + 1) : std::string());
  }

  // "0", "name", "" (the next one), then any of ".attribute" and "[key]".
  Value resolve(std::string_view name) {
    FormatReader in{name};
    Value value = argument(in.take_until(".["));
    while (const char c = in.take(".[")) {
      const std::string_view key = in.take_until(c == '.' ? ".[" : "]");
      if (c == '[' && !in.take("]")) break;
      value = c == '.' ? get_attribute(value, key) : get_item(value, key_of(key));
    }
    if (in.position != name.size()) fail("malformed field '{}' in a format", name);
    return value;
  }

  Value argument(std::string_view name) {
    const Value key = name.empty() ? Value(next_++) : key_of(name);
    if (const auto index = as_integer(key)) {
      if (*index >= static_cast<std::int64_t>(arguments_.positional.size()))
        fail("replacement index {} out of range for positional args tuple", *index);
      return arguments_.positional[static_cast<std::size_t>(*index)];
    }
    for (const auto& [keyword, value] : arguments_.keywords)
      if (keyword == name) return value;
    fail("the format's arguments have no '{}'", name);
  }

  const Arguments& arguments_;
  std::size_t next_ = 0;
};

class JsonWriter {
 public:
  JsonWriter(TextBuilder& output, const JsonStyle& style) : output_(output), style_(style) {}

  void write(const Value& value, int level = 0) {
    if (const auto text = scalar(value)) return output_.append(*text);
    if (value.is_string()) return write_string(value.text());
    if (value.is_dict()) return write_dict(value.dict(), level);
    if (!value.is_list()) fail("Object of type {} is not JSON serializable", type_name(value));
    write_all("[]", value.items().size(), level, [&](std::size_t i) { write(value.items()[i], level + 1); });
  }

 private:
  // None, True, False and numbers.
  static std::optional<std::string> scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.kind() == Kind::boolean) return value.boolean() ? "true" : "false";
    if (value.kind() == Kind::integer) return std::to_string(value.integer());
    if (value.kind() != Kind::real) return std::nullopt;
    if (std::isnan(value.real())) return "NaN";
    if (std::isinf(value.real())) return value.real() < 0 ? "-Infinity" : "Infinity";
    return real_text(value.real());
  }

  void new_line(int level) {
    if (!style_.indent) return;
    output_.append("\n");
    for (int i = 0; i < level; ++i) output_.append(*style_.indent);
  }

  template <class WriteOne>
  void write_all(std::string_view brackets, std::size_t count, int level, WriteOne&& write_one) {
    output_.append(brackets.substr(0, 1));
    for (std::size_t i = 0; i < count; ++i) {
      if (i) output_.append(style_.item_separator);
      new_line(level + 1);
      write_one(i);
    }
    if (count) new_line(level);
    output_.append(brackets.substr(1));
  }

  void write_dict(const DictObject& dict, int level) {
    auto entries = dict.entries();
    if (style_.sorts_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return less(a.first, b.first); });
    write_all("{}", entries.size(), level, [&](std::size_t i) {
      const auto& [key, value] = entries[i];
      const auto name = scalar(key);
      if (!name && !key.is_string()) fail("keys must be str, int, float, bool or None, not {}", type_name(key));
      write_string(name ? *name : key.text());
      output_.append(style_.key_separator);
      write(value, level + 1);
    });
  }

  void write_string(std::string_view text) {
    std::string piece = "\"";  // written in pieces: an escape is up to six times as long
    for (const auto [c, bytes] : characters(text)) {
      constexpr std::string_view letters = "\"\\\n\r\t\f\b", escapes = "\"\\nrtfb";
      const auto code = static_cast<std::uint32_t>(c);
      if (const std::size_t special = letters.find(bytes); special != letters.npos)
        piece += std::string("\\") + escapes[special];
      else if (c >= 0x20 && (c < 0x7f || !style_.ascii_only))
        piece += bytes;
      else if (c < 0x10000)
        piece += fmt::format("\\u{:04x}", code);
      else
        piece +=
            fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF));
      if (piece.size() > 4000) output_.append(std::exchange(piece, {}));
    }
    output_.append(piece + "\"");
  }

  TextBuilder& output_;
  const JsonStyle& style_;
};

}  // namespace

std::string format_percent(std::string_view format, const Value& value) {
  TextBuilder output;
  PercentArguments arguments{value};
  FormatReader in{format};
  while (in.position < format.size()) {
    output.append(in.take_until("%"));
    if (in.take("%")) output.append(format_conversion(in, arguments));
  }
  arguments.require_all_used();
  return output.take();
}

std::string format_braces(std::string_view format, const Arguments& arguments) {
  return BraceFormatter(arguments).format(format);
}

std::string to_json(const Value& value, const JsonStyle& style) {
  TextBuilder output;
  JsonWriter(output, style).write(value);
  return output.take();
}

std::string character_text(const Value& code) {
  const std::int64_t character = *as_integer(code);
  if (character < 0 || character > 0x10FFFF || (character >= 0xD800 && character < 0xE000))
    fail("{} is no character", character);
  std::string text;
  append_character(text, static_cast<char32_t>(character));
  return text;
}

// Every conversion by itself, because strftime's 0 means both an empty result and too small a buffer.
std::string format_time(const std::tm& time, std::string_view format) {
  TextBuilder output;
  FormatReader in{format};
  while (in.position < format.size()) {
    output.append(in.take_until("%"));
    const std::size_t percent = in.position;
    in.position = std::min(format.find_first_not_of("-_0^#EO", percent + 1), format.size());
    if (in.position == format.size()) return output.append(format.substr(percent)), output.take();
    const char letter = format[in.position++];
    const std::string conversion(format.substr(percent, in.position - percent));
    char buffer[256];
    if (letter == 'f') output.append("000000");
    if (letter != 'f' && letter != 'z' && letter != 'Z')  // no zone: nothing, as for a naive datetime
      output.append(std::string_view(buffer, std::strftime(buffer, sizeof buffer, conversion.c_str(), &time)));
  }
  return output.take();
}

}  // namespace lathe::jinja
