// Formatting: printf-style, str.format, JSON and dates; see the header.
#include "text/chat_template/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/chat_template/operators.h"
#include "text/chat_template/unicode.h"

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

constexpr std::int64_t maximum_width = 1 << 20, maximum_precision = 1000;

std::string pad(std::string_view text, const Specification& spec, char default_align, std::size_t sign_length = 0) {
  const std::int64_t missing = spec.width - static_cast<std::int64_t>(count_code_points(text));
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
  const bool is_binary = spec.type == 'x' || spec.type == 'X' || spec.type == 'o' || spec.type == 'b';
  if (spec.grouping) digits = group_digits(std::move(digits), spec.grouping, is_binary ? 4 : 3);
  std::string head = is_negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  head += prefix;
  return pad(head + digits, spec, '>', head.size());
}

std::string format_integer(std::int64_t value, const Specification& spec) {
  const std::uint64_t magnitude = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  std::string digits, prefix;
  switch (spec.type) {
    case 'x': digits = fmt::format("{:x}", magnitude), prefix = "0x"; break;
    case 'X': digits = fmt::format("{:X}", magnitude), prefix = "0X"; break;
    case 'o': digits = fmt::format("{:o}", magnitude), prefix = "0o"; break;
    case 'b': digits = fmt::format("{:b}", magnitude), prefix = "0b"; break;
    default: digits = std::to_string(magnitude);
  }
  if (spec.precision > static_cast<std::int64_t>(digits.size()))
    digits.insert(0, static_cast<std::size_t>(spec.precision) - digits.size(), '0');
  return finish_number(value < 0, spec.alternate ? prefix : "", digits, spec);
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
  if (spec.type == 'E' || spec.type == 'F' || spec.type == 'G') digits = upper(digits);
  return finish_number(std::signbit(value) && !std::isnan(value), "", digits, spec);
}

// What ascii() makes of a repr().
std::string ascii_only(std::string_view text) {
  std::string result;
  for (std::size_t position = 0; position < text.size();) {
    const auto c = static_cast<std::uint32_t>(next_code_point(text, position));
    result += c < 0x80      ? std::string(1, static_cast<char>(c))
              : c < 0x100   ? fmt::format("\\x{:02x}", c)
              : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                            : fmt::format("\\U{:08x}", c);
  }
  return result;
}

std::string format_string(std::string_view text, const Specification& spec) {
  std::size_t end = text.size();
  if (spec.precision >= 0) {
    std::size_t position = 0;
    for (std::int64_t i = 0; i < spec.precision && position < text.size(); ++i) next_code_point(text, position);
    end = std::min(end, position);
  }
  return pad(text.substr(0, end), spec, '<');
}

// Digits at `position`, which moves past them; -1 where there are none.
std::int64_t read_count(std::string_view text, std::size_t& position, std::int64_t maximum, const char* what) {
  std::int64_t count = -1;
  for (; position < text.size() && text[position] >= '0' && text[position] <= '9'; ++position) {
    count = std::max<std::int64_t>(count, 0) * 10 + (text[position] - '0');
    if (count > maximum) fail("the {} in a format is more than {}", what, maximum);
  }
  return count;
}

// The arguments of a printf-style format, in order or by name.
class PercentArguments {
 public:
  explicit PercentArguments(const Value& value) : value_(value) {
    is_tuple_ = value.kind() == Kind::list && value.list().is_tuple;
  }
  Value next() {
    if (is_tuple_ ? used_ >= value_.list().items.size() : used_ > 0) fail("not enough arguments for format string");
    return is_tuple_ ? value_.list().items[used_++] : (++used_, value_);
  }
  Value named(std::string_view name) {
    if (!value_.is_dict()) fail("format requires a mapping");
    by_name_ = true;
    const Value* value = value_.dict().find_text(name);
    if (!value) fail("the format's mapping has no '{}'", name);
    return *value;
  }
  void require_all_used() const {
    const bool all = is_tuple_ ? used_ >= value_.list().items.size()
                               : used_ > 0 || value_.is_dict() || value_.is_undefined() ||
                                     value_.kind() == Kind::list || value_.kind() == Kind::iterable;
    if (!all && !by_name_) fail("not all arguments converted during string formatting");
  }

 private:
  const Value& value_;
  std::size_t used_ = 0;
  bool is_tuple_ = false, by_name_ = false;
};

std::string convert_percent(const Value& value, Specification spec) {
  switch (spec.type) {
    case 's': return format_string(to_text(value), spec);
    case 'r': return format_string(representation(value), spec);
    case 'a': return format_string(ascii_only(representation(value)), spec);
    case 'c':
      return as_integer(value) ? [&] {
        std::string text;
        if (*as_integer(value) < 0 || *as_integer(value) > 0x10FFFF) fail("%c arg not in range(0x110000)");
        append_code_point(text, static_cast<char32_t>(*as_integer(value)));
        return pad(text, spec, '>');
      }() : format_string(to_text(value), spec);
    default: break;
  }
  if (!is_number(value)) fail("%{} format: a number is required, not {}", spec.type, type_name(value));
  if (std::string_view("eEfFgG").find(spec.type) != std::string_view::npos) return format_real(as_real(value), spec);
  if (value.kind() == Kind::real && (!std::isfinite(value.real()) || std::abs(value.real()) >= 9.2e18))
    fail("%{} format: {} is no 64-bit integer", spec.type, real_text(value.real()));
  return format_integer(value.kind() == Kind::real ? static_cast<std::int64_t>(value.real()) : *as_integer(value),
                        spec);
}

// One conversion such as "%-5.1f"; `position` is behind the percent sign and moves past the conversion.
std::string format_conversion(std::string_view format, std::size_t& position, PercentArguments& arguments) {
  Specification spec;
  std::optional<Value> value;
  if (position < format.size() && format[position] == '(') {
    const std::size_t end = format.find(')', position);
    if (end == format.npos) fail("incomplete format key");
    value = arguments.named(format.substr(position + 1, end - position - 1));
    position = end + 1;
  }
  for (; position < format.size() && std::string_view("-+ #0").find(format[position]) != std::string_view::npos;
       ++position) {
    switch (format[position]) {
      case '-': spec.align = '<'; break;
      case '+': spec.sign = '+'; break;
      case ' ': spec.sign = spec.sign == '+' ? '+' : ' '; break;
      case '#': spec.alternate = true; break;
      default:
        if (!spec.align) spec.align = '=', spec.fill = "0";
    }
  }
  if (spec.align == '<') spec.fill = " ";
  const auto count = [&](std::int64_t maximum, const char* what) -> std::int64_t {
    if (position >= format.size() || format[position] != '*') return read_count(format, position, maximum, what);
    ++position;
    const auto given = as_integer(arguments.next());
    if (!given || *given < 0 || *given > maximum) fail("the {} of a format is not an integer up to {}", what, maximum);
    return *given;
  };
  spec.width = std::max<std::int64_t>(count(maximum_width, "width"), 0);
  if (position < format.size() && format[position] == '.')
    spec.precision = std::max<std::int64_t>((++position, count(maximum_precision, "precision")), 0);
  while (position < format.size() && std::string_view("hlL").find(format[position]) != std::string_view::npos)
    ++position;
  if (position >= format.size()) fail("incomplete format");
  spec.type = format[position++];
  if (spec.type == '%') return "%";
  if (std::string_view("diouxXeEfFgGcrsa").find(spec.type) == std::string_view::npos)
    fail("unsupported format character '{}'", spec.type);
  if (spec.align == '=' && std::string_view("crsa").find(spec.type) != std::string_view::npos)
    spec.align = '>', spec.fill = " ";
  if (spec.align == '\0') spec.align = '>';
  return convert_percent(value ? *value : arguments.next(), spec);
}

}  // namespace

std::string format_percent(std::string_view format, const Value& value) {
  TextBuilder output;
  PercentArguments arguments(value);
  for (std::size_t position = 0; position < format.size();) {
    const std::size_t percent = std::min(format.find('%', position), format.size());
    output.append(format.substr(position, percent - position));
    position = percent;
    if (percent < format.size()) output.append(format_conversion(format, ++position, arguments));
  }
  arguments.require_all_used();
  return output.take();
}

namespace {

Specification parse_specification(std::string_view text) {
  Specification spec;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  std::size_t position = 0, after_first = 0;
  if (!text.empty()) next_code_point(text, after_first);
  if (after_first < text.size() && is_align(text[after_first])) {
    spec.fill = text.substr(0, after_first);
    spec.align = text[after_first];
    position = after_first + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[position++];
  }
  const auto take = [&](std::string_view any_of) {
    if (position >= text.size() || any_of.find(text[position]) == any_of.npos) return '\0';
    return text[position++];
  };
  if (const char sign = take("+- ")) spec.sign = sign;
  spec.alternate = take("#") != '\0';
  if (take("0") && !spec.align) spec.align = '=', spec.fill = "0";
  spec.width = std::max<std::int64_t>(read_count(text, position, maximum_width, "width"), 0);
  spec.grouping = take(",_");
  if (take(".") && (spec.precision = read_count(text, position, maximum_precision, "precision")) < 0)
    fail("format specifier missing precision");
  spec.type = take("bcdeEfFgGnosxX%");
  if (position != text.size()) fail("invalid format specifier '{}'", text);
  return spec;
}

std::string format_value(const Value& value, std::string_view specification) {
  if (specification.empty()) return to_text(value);
  Specification spec = parse_specification(specification);
  const bool is_real_type = std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type;
  const bool is_integer_type = std::string_view("bcdnoxX").find(spec.type) != std::string_view::npos && spec.type;
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
  if (spec.type == 'c') {
    if (*as_integer(value) < 0 || *as_integer(value) > 0x10FFFF) fail("%c arg not in range(0x110000)");
    std::string character;
    append_code_point(character, static_cast<char32_t>(*as_integer(value)));
    return pad(character, spec, '<');
  }
  return format_integer(*as_integer(value), spec);
}

class BraceFormatter {
 public:
  explicit BraceFormatter(const Arguments& arguments) : arguments_(arguments) {}

  std::string format(std::string_view text, int depth = 0) {
    if (depth > 1) fail("max string recursion exceeded in a format");
    TextBuilder output;
    for (std::size_t position = 0; position < text.size();) {
      const char c = text[position++];
      const bool is_doubled = position < text.size() && text[position] == c;
      if (c != '{' && c != '}') {
        const std::size_t brace = std::min(text.find_first_of("{}", position), text.size());
        output.append(text.substr(position - 1, brace - position + 1));
        position = brace;
      } else if (is_doubled) {
        output.append(1, c);
        ++position;
      } else if (c == '}') {
        fail("single '}}' encountered in format string");
      } else {
        output.append(field(text, position, depth));
      }
    }
    return output.take();
  }

 private:
  // One field, `position` behind its opening brace; moves past the closing one.
  std::string field(std::string_view text, std::size_t& position, int depth) {
    const std::size_t begin = position;
    for (int open = 1; open > 0; ++position) {
      if (position >= text.size()) fail("expected '}}' before end of string");
      open += text[position] == '{' ? 1 : text[position] == '}' ? -1 : 0;
    }
    const std::string_view inside = text.substr(begin, position - 1 - begin);
    const std::size_t colon = std::min(inside.find(':'), inside.size());
    std::string_view name = inside.substr(0, colon);
    char conversion = '\0';
    if (const std::size_t mark = name.find('!'); mark != name.npos) {
      if (mark + 2 != name.size()) fail("expected ':' after conversion specifier");
      conversion = name[mark + 1];
      name = name.substr(0, mark);
    }
    Value value = resolve(name);
    if (conversion == 's')
      value = to_text(value);
    else if (conversion == 'r' || conversion == 'a')
      value = conversion == 'r' ? representation(value) : ascii_only(representation(value));
    else if (conversion)
      fail("unknown conversion specifier '{}'", conversion);
    return format_value(value, colon < inside.size() ? format(inside.substr(colon + 1), depth + 1) : std::string());
  }

  // "0", "name", "" (the next one), then any of ".attribute" and "[key]".
  Value resolve(std::string_view name) {
    std::size_t position = std::min(name.find_first_of(".["), name.size());
    Value value = argument(name.substr(0, position));
    while (position < name.size()) {
      if (name[position] == '.') {
        const std::size_t end = std::min(name.find_first_of(".[", position + 1), name.size());
        value = get_attribute(value, name.substr(position + 1, end - position - 1));
        position = end;
      } else {
        const std::size_t end = name.find(']', position);
        if (name[position] != '[' || end == name.npos) fail("malformed field '{}' in a format", name);
        const std::string_view key = name.substr(position + 1, end - position - 1);
        value = get_item(value, is_index(key) ? Value(parse_index(key)) : Value(key));
        position = end + 1;
      }
    }
    return value;
  }

  static bool is_index(std::string_view text) {
    return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == text.npos;
  }
  static std::int64_t parse_index(std::string_view text) { return std::stoll(std::string(text)); }

  Value argument(std::string_view name) {
    if (name.empty() || is_index(name)) {
      const std::size_t index = name.empty() ? next_++ : static_cast<std::size_t>(parse_index(name));
      if (index >= arguments_.positional.size())
        fail("replacement index {} out of range for positional args tuple", index);
      return arguments_.positional[index];
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
    switch (value.kind()) {
      case Kind::none: return output_.append("null");
      case Kind::boolean: return output_.append(value.boolean() ? "true" : "false");
      case Kind::integer: return output_.append(std::to_string(value.integer()));
      case Kind::real: return output_.append(number(value.real()));
      case Kind::string: return write_string(value.text());
      case Kind::list: return write_list(value.list().items, level);
      case Kind::dict: return write_dict(value.dict(), level);
      default: fail("Object of type {} is not JSON serializable", type_name(value));
    }
  }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return real_text(value);
  }

  void new_line(int level) {
    if (!style_.indent) return;
    output_.append("\n");
    for (int i = 0; i < level; ++i) output_.append(*style_.indent);
  }

  void write_list(const std::vector<Value>& items, int level) {
    if (items.empty()) return output_.append("[]");
    output_.append("[");
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i) output_.append(style_.item_separator);
      new_line(level + 1);
      write(items[i], level + 1);
    }
    new_line(level);
    output_.append("]");
  }

  void write_dict(const DictObject& dict, int level) {
    if (dict.entries().empty()) return output_.append("{}");
    auto entries = dict.entries();
    if (style_.sorts_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return compare(a.first, b.first, "<") == -1; });
    output_.append("{");
    bool first = true;
    for (const auto& [key, value] : entries) {
      if (!std::exchange(first, false)) output_.append(style_.item_separator);
      new_line(level + 1);
      write_key(key);
      output_.append(style_.key_separator);
      write(value, level + 1);
    }
    new_line(level);
    output_.append("}");
  }

  void write_key(const Value& key) {
    switch (key.kind()) {
      case Kind::string: return write_string(key.text());
      case Kind::none: return write_string("null");
      case Kind::boolean: return write_string(key.boolean() ? "true" : "false");
      case Kind::integer: return write_string(std::to_string(key.integer()));
      case Kind::real: return write_string(number(key.real()));
      default: fail("keys must be str, int, float, bool or None, not {}", type_name(key));
    }
  }

  void write_string(std::string_view text) {
    std::string piece = "\"";  // written in pieces: an escape is up to six times as long
    for (std::size_t position = 0; position < text.size();) {
      const std::size_t begin = position;
      const char32_t c = next_code_point(text, position);
      constexpr std::string_view letters = "\"\\\n\r\t\f\b", escapes = "\"\\nrtfb";
      const std::size_t special = c < 0x80 ? letters.find(static_cast<char>(c)) : letters.npos;
      if (special != letters.npos)
        piece += std::string("\\") + escapes[special];
      else if (c < 0x20)
        piece += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
      else if (c < 0x7f || !style_.ascii_only)
        piece += text.substr(begin, position - begin);
      else if (c < 0x10000)
        piece += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
      else
        piece += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
      if (piece.size() > 4000) output_.append(std::exchange(piece, {}));
    }
    output_.append(piece + "\"");
  }

  TextBuilder& output_;
  const JsonStyle& style_;
};

}  // namespace

std::string format_braces(std::string_view format, const Arguments& arguments) {
  return BraceFormatter(arguments).format(format);
}

std::string to_json(const Value& value, const JsonStyle& style) {
  TextBuilder output;
  JsonWriter(output, style).write(value);
  return output.take();
}

// Every conversion by itself, because strftime's 0 means both an empty result and too small a buffer.
std::string format_time(const std::tm& time, std::string_view format) {
  TextBuilder output;
  for (std::size_t position = 0; position < format.size();) {
    const std::size_t percent = std::min(format.find('%', position), format.size());
    output.append(format.substr(position, percent - position));
    position = percent;
    if (percent == format.size()) break;
    const std::size_t letter = format.find_first_not_of("-_0^#EO", percent + 1);
    if (letter == format.npos) {
      output.append(format.substr(percent));
      break;
    }
    position = letter + 1;
    if (format[letter] == 'z' || format[letter] == 'Z') continue;  // no zone: nothing, as for a naive datetime
    if (format[letter] == 'f') {
      output.append("000000");
      continue;
    }
    char buffer[256];
    const std::size_t size =
        std::strftime(buffer, sizeof buffer, std::string(format.substr(percent, position - percent)).c_str(), &time);
    output.append(std::string_view(buffer, size));
  }
  return output.take();
}

}  // namespace lathe::jinja
