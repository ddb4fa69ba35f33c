// The methods of str, dict, list and tuple; Python's own documentation is the reference.
#include <algorithm>
#include <utility>

#include "text/chat_template/builtins.h"
#include "text/chat_template/format.h"
#include "text/chat_template/operators.h"
#include "text/chat_template/unicode.h"

namespace lathe::jinja {
namespace {

const std::string& own_text(const BoundCall& call) {
  charge_text(call.self.text().size());
  return call.self.text();
}

// text[start:end] of a method's optional bounds, and the code point that it begins at.
struct Window {
  std::string_view text;
  std::int64_t first;
};

Window window(const BoundCall& call, std::size_t start_parameter) {
  const std::string& text = own_text(call);
  const auto length = static_cast<std::int64_t>(call.self.string().length);
  const auto clamped = [&](std::int64_t index) {
    return std::clamp<std::int64_t>(index < 0 ? index + length : index, 0, length);
  };
  const auto start = call.integer_or(start_parameter, 0), end = call.integer_or(start_parameter + 1, length);
  const std::int64_t first = clamped(std::max(start, -length)), last = clamped(std::max(end, -length));
  if (start > length || first > last) return {std::string_view(), -1};  // even an empty string is not found there
  const auto offset = [&](std::int64_t index) {
    if (call.self.string().is_ascii()) return static_cast<std::size_t>(index);
    std::size_t position = 0;
    for (std::int64_t i = 0; i < index; ++i) next_code_point(text, position);
    return position;
  };
  const std::size_t begin = offset(first);
  return {std::string_view(text).substr(begin, offset(last) - begin), first};
}

Value find_in(const BoundCall& call, bool from_right, bool must_exist) {
  const std::string& part = call.text(0);
  const auto [text, first] = window(call, 1);
  const std::size_t found = first < 0 ? text.npos : from_right ? find_last_text(text, part) : find_text(text, part);
  if (found == text.npos && must_exist) fail("substring not found");
  if (found == text.npos) return -1;
  return first + static_cast<std::int64_t>(count_code_points(text.substr(0, found)));
}

Value starts_or_ends(const BoundCall& call, bool at_end) {
  const auto [text, first] = window(call, 1);
  const auto matches = [&, text = text, first = first](const Value& part) {
    if (!part.is_string())
      fail("{} first arg must be str or a tuple of str, not {}", at_end ? "endswith" : "startswith", type_name(part));
    return first >= 0 && (at_end ? text.ends_with(part.text()) : text.starts_with(part.text()));
  };
  const Value& parts = call[0];
  if (parts.kind() != Kind::list || !parts.list().is_tuple) return matches(parts);
  return std::any_of(parts.list().items.begin(), parts.list().items.end(), matches);
}

Value replace(const BoundCall& call) {
  const std::string &text = own_text(call), &from = call.text(0), &to = call.text(1);
  std::int64_t left = call.integer_or(2, -1);
  TextBuilder output;
  std::size_t position = 0;
  while (left != 0) {
    std::size_t found;
    if (from.empty()) {  // an empty string is found between all code points
      if (position > text.size()) break;
      output.append(to);
      if (position == text.size()) return output.take();
      found = position;
      next_code_point(text, position);
      output.append(std::string_view(text).substr(found, position - found));
    } else {
      if ((found = find_text(text, from, position)) == std::string::npos) break;
      output.append(std::string_view(text).substr(position, found - position));
      output.append(to);
      position = found + from.size();
    }
    if (left > 0) --left;
  }
  output.append(std::string_view(text).substr(std::min(position, text.size())));
  return output.take();
}

std::vector<Value> split_at(std::string_view text, std::string_view separator, std::int64_t limit, bool from_right) {
  if (separator.empty()) fail("empty separator");
  std::vector<Value> parts;
  while (limit != 0) {
    const std::size_t found = from_right ? find_last_text(text, separator) : find_text(text, separator);
    if (found == text.npos) break;
    parts.emplace_back(from_right ? text.substr(found + separator.size()) : text.substr(0, found));
    text = from_right ? text.substr(0, found) : text.substr(found + separator.size());
    if (limit > 0) --limit;
  }
  parts.emplace_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

// Where the first word of a text ends, and where the last one begins; the text has no space on that side.
std::size_t first_word_end(std::string_view text) {
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    if (is_space(next_code_point(text, position))) return begin;
  }
  return text.size();
}

std::size_t last_word_begin(std::string_view text) {
  for (std::size_t begin = text.size(); begin > 0;) {
    const std::size_t end = begin--;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    std::size_t position = begin;
    if (is_space(next_code_point(text, position))) return end;
  }
  return 0;
}

std::vector<Value> split_at_space(std::string_view text, std::int64_t limit, bool from_right) {
  std::vector<Value> parts;
  while (true) {
    text = strip(text, from_right ? Side::right : Side::left);
    if (text.empty()) break;
    if (limit == 0) {
      parts.emplace_back(text);  // the outer end keeps its spaces
      break;
    }
    const std::size_t border = from_right ? last_word_begin(text) : first_word_end(text);
    parts.emplace_back(from_right ? text.substr(border) : text.substr(0, border));
    text = from_right ? text.substr(0, border) : text.substr(border);
    if (limit > 0) --limit;
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

Value split(const BoundCall& call, bool from_right) {
  const std::string& text = own_text(call);
  const std::int64_t limit = call.integer_or(1, -1);
  return Value::list(call.has(0) ? split_at(text, call.text(0), limit, from_right)
                                 : split_at_space(text, limit, from_right));
}

Value split_lines(const BoundCall& call) {
  const std::string& text = own_text(call);
  const bool keeps_ends = call.flag(0);
  std::vector<Value> lines;
  std::size_t begin = 0;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t end = position;
    const char32_t c = next_code_point(text, position);
    if (!is_line_break(c)) continue;
    if (c == '\r' && position < text.size() && text[position] == '\n') ++position;
    lines.emplace_back(text.substr(begin, (keeps_ends ? position : end) - begin));
    begin = position;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return Value::list(std::move(lines));
}

Value partition(const BoundCall& call, bool from_right) {
  const std::string &text = own_text(call), &separator = call.text(0);
  if (separator.empty()) fail("empty separator");
  const std::size_t found = from_right ? find_last_text(text, separator) : find_text(text, separator);
  if (found == text.npos) return from_right ? Value::tuple({"", "", text}) : Value::tuple({text, "", ""});
  return Value::tuple({text.substr(0, found), separator, text.substr(found + separator.size())});
}

Value join_method(const BoundCall& call) {
  TextBuilder output;
  bool first = true;
  for (const Value& item : iterate(call[0])) {
    if (!item.is_string()) fail("str.join: expected str instances, {} found", type_name(item));
    if (!std::exchange(first, false)) output.append(call.self.text());
    output.append(item.text());
  }
  return output.take();
}

Value strip_side(const BoundCall& call, Side side) {
  return Value(strip(own_text(call), side, call.has(0) ? &call.text(0) : nullptr));
}

Value justify(const BoundCall& call, char align) {
  const std::int64_t width = call.integer(0);
  const std::string fill = call.has(1) ? call.text(1) : " ";
  if (count_code_points(fill) != 1) fail("the fill character must be exactly one character long");
  const std::int64_t missing = width - static_cast<std::int64_t>(call.self.string().length);
  if (missing <= 0) return call.self;
  check_room(static_cast<std::size_t>(missing) > SIZE_MAX / 4 ? SIZE_MAX
                                                              : static_cast<std::size_t>(missing) * fill.size());
  // CPython's rule for an odd margin: the left gets the larger half only when the width is odd.
  const std::int64_t left = align == '<' ? 0 : align == '>' ? missing : missing / 2 + (missing & width & 1);
  std::string text;
  for (std::int64_t i = 0; i < left; ++i) text += fill;
  text += own_text(call);
  for (std::int64_t i = left; i < missing; ++i) text += fill;
  return text;
}

Value zero_fill(const BoundCall& call) {
  const std::int64_t missing = call.integer(0) - static_cast<std::int64_t>(call.self.string().length);
  if (missing <= 0) return call.self;
  check_room(static_cast<std::size_t>(missing));
  std::string text = own_text(call);
  return text.insert(!text.empty() && (text[0] == '-' || text[0] == '+'), static_cast<std::size_t>(missing), '0');
}

// Not empty, and every code point in one of the classes.
bool all_in(const BoundCall& call, std::initializer_list<CharacterClass> classes) {
  const std::string& text = own_text(call);
  charge_unicode(text.size());
  for (std::size_t position = 0; position < text.size();) {
    const char32_t c = next_code_point(text, position);
    if (std::none_of(classes.begin(), classes.end(), [c](CharacterClass one) { return is_in_class(c, one); }))
      return false;
  }
  return !text.empty();
}

bool all_space(const BoundCall& call) { return !call.self.text().empty() && strip(own_text(call), Side::left).empty(); }

// Has letters of this case, and none of the other.
bool is_in_case(const BoundCall& call, CharacterClass wanted, CharacterClass other) {
  const std::string& text = own_text(call);
  charge_unicode(text.size());
  bool found = false;
  for (std::size_t position = 0; position < text.size();) {
    const char32_t c = next_code_point(text, position);
    if (is_in_class(c, other) || is_in_class(c, CharacterClass::titlecase)) return false;
    found |= is_in_class(c, wanted);
  }
  return found;
}

bool all_printable(const BoundCall& call) {
  std::string text;
  for (const char c : own_text(call))
    if (c != ' ') text += c;  // the only separator that is printable
  charge_unicode(text.size());
  for (std::size_t position = 0; position < text.size();)
    if (!is_in_class(next_code_point(text, position), CharacterClass::printable)) return false;
  return true;
}

// Upper case exactly where a word of cased letters begins.
bool is_title(const BoundCall& call) {
  const std::string& text = own_text(call);
  charge_unicode(text.size());
  bool within_word = false, found = false;
  for (std::size_t position = 0; position < text.size();) {
    const char32_t c = next_code_point(text, position);
    const bool is_upper = is_in_class(c, CharacterClass::uppercase) || is_in_class(c, CharacterClass::titlecase);
    const bool is_lower = is_in_class(c, CharacterClass::lowercase);
    if ((is_upper && within_word) || (is_lower && !within_word)) return false;
    within_word = is_upper || is_lower;
    found |= within_word;
  }
  return found;
}

// Code points by a dict: to another, to a text, or to None, which removes them.
Value translate(const BoundCall& call) {
  const std::string& text = own_text(call);
  if (!call[0].is_dict()) fail("translate: the table must be a dict, not {}", type_name(call[0]));
  TextBuilder output;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    const auto code = static_cast<std::int64_t>(next_code_point(text, position));
    charge(1);
    const Value* found = call[0].dict().find(Value(code));
    if (!found) {
      output.append(std::string_view(text).substr(begin, position - begin));
    } else if (const auto other = as_integer(*found)) {
      if (*other < 0 || *other > 0x10FFFF) fail("character mapping must be in range(0x110000)");
      std::string character;
      append_code_point(character, static_cast<char32_t>(*other));
      output.append(character);
    } else if (!found->is_none()) {
      if (!found->is_string()) fail("character mapping must return integer, None or str");
      output.append(found->text());
    }
  }
  return output.take();
}

bool is_identifier(const BoundCall& call) {
  std::size_t position = 0;
  const std::string& text = call.self.text();
  return all_in(call, {CharacterClass::word}) && !is_in_class(next_code_point(text, position), CharacterClass::numeric);
}

Value count_text(const BoundCall& call) {
  const std::string& part = call.text(0);
  const auto [text, first] = window(call, 1);
  if (first < 0) return 0;
  if (part.empty()) return count_code_points(text) + 1;
  std::int64_t count = 0;
  for (std::size_t position = 0; (position = find_text(text, part, position)) != text.npos; position += part.size())
    ++count;
  return count;
}

Value remove_affix(const BoundCall& call, bool at_end) {
  const std::string &text = own_text(call), &affix = call.text(0);
  if (affix.empty() || !(at_end ? text.ends_with(affix) : text.starts_with(affix))) return call.self;
  return at_end ? text.substr(0, text.size() - affix.size()) : text.substr(affix.size());
}

Value expand_tabs(const BoundCall& call) {
  const std::int64_t size = std::min<std::int64_t>(call.integer_or(0, 8), 1 << 20);
  TextBuilder output;
  const std::string& text = own_text(call);
  std::int64_t column = 0;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    const char32_t c = next_code_point(text, position);
    if (c == '\t') {
      const std::int64_t spaces = size > 0 ? size - column % size : 0;
      output.append(static_cast<std::size_t>(spaces), ' ');
      column += spaces;
    } else {
      output.append(std::string_view(text).substr(begin, position - begin));
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
  }
  return output.take();
}

Value iterable(IterableObject::Type type, std::vector<Value> items) {
  return std::make_shared<IterableObject>(type, std::move(items));
}

Value dict_items(BoundCall& call) {
  std::vector<Value> items;
  for (const auto& [key, value] : call.self.dict().entries()) items.push_back(Value::tuple({key, value}));
  return iterable(IterableObject::Type::items, std::move(items));
}

Value dict_values(BoundCall& call) {
  std::vector<Value> items;
  for (const auto& entry : call.self.dict().entries()) items.push_back(entry.second);
  return iterable(IterableObject::Type::values, std::move(items));
}

Value list_index(BoundCall& call) {
  const std::vector<Value>& items = call.self.list().items;
  const auto found = std::find_if(items.begin(), items.end(), [&](const Value& item) { return equal(item, call[0]); });
  if (found == items.end()) fail("{} is not in list", representation(call[0]));
  return found - items.begin();
}

Value list_count(BoundCall& call) {
  const std::vector<Value>& items = call.self.list().items;
  return std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(item, call[0]); });
}

using Class = CharacterClass;

constexpr Builtin string_methods[] = {
    {"capitalize", "", [](BoundCall& c) -> Value { return capitalize(own_text(c)); }},
    {"casefold", "", [](BoundCall& c) -> Value { return fold_case(own_text(c)); }},
    {"center", "/width fillchar?", [](BoundCall& c) { return justify(c, '^'); }},
    {"count", "/sub start? end?", [](BoundCall& c) { return count_text(c); }},
    {"endswith", "/suffix start? end?", [](BoundCall& c) { return starts_or_ends(c, true); }},
    {"expandtabs", "tabsize?", [](BoundCall& c) { return expand_tabs(c); }},
    {"find", "/sub start? end?", [](BoundCall& c) { return find_in(c, false, false); }},
    {"format", "*", [](BoundCall& c) -> Value { return format_braces(own_text(c), c.arguments); }},
    {"index", "/sub start? end?", [](BoundCall& c) { return find_in(c, false, true); }},
    {"isalnum", "",
     [](BoundCall& c) -> Value {
       return all_in(c, {Class::letter, Class::numeric});
     }},
    {"isalpha", "", [](BoundCall& c) -> Value { return all_in(c, {Class::letter}); }},
    {"isascii", "", [](BoundCall& c) -> Value { return c.self.string().is_ascii(); }},
    {"isdecimal", "", [](BoundCall& c) -> Value { return all_in(c, {Class::decimal}); }},
    {"isdigit", "", [](BoundCall& c) -> Value { return all_in(c, {Class::digit}); }},
    {"isidentifier", "", [](BoundCall& c) -> Value { return is_identifier(c); }},
    {"islower", "", [](BoundCall& c) -> Value { return is_in_case(c, Class::lowercase, Class::uppercase); }},
    {"isnumeric", "", [](BoundCall& c) -> Value { return all_in(c, {Class::numeric}); }},
    {"isprintable", "", [](BoundCall& c) -> Value { return c.self.text().empty() || all_printable(c); }},
    {"isspace", "", [](BoundCall& c) -> Value { return all_space(c); }},
    {"istitle", "", [](BoundCall& c) -> Value { return is_title(c); }},
    {"isupper", "", [](BoundCall& c) -> Value { return is_in_case(c, Class::uppercase, Class::lowercase); }},
    {"join", "/iterable", [](BoundCall& c) { return join_method(c); }},
    {"ljust", "/width fillchar?", [](BoundCall& c) { return justify(c, '<'); }},
    {"lower", "", [](BoundCall& c) -> Value { return lower(own_text(c)); }},
    {"lstrip", "/chars?", [](BoundCall& c) { return strip_side(c, Side::left); }},
    {"partition", "/sep", [](BoundCall& c) { return partition(c, false); }},
    {"removeprefix", "/prefix", [](BoundCall& c) { return remove_affix(c, false); }},
    {"removesuffix", "/suffix", [](BoundCall& c) { return remove_affix(c, true); }},
    {"replace", "/old new count?", [](BoundCall& c) { return replace(c); }},
    {"rfind", "/sub start? end?", [](BoundCall& c) { return find_in(c, true, false); }},
    {"rindex", "/sub start? end?", [](BoundCall& c) { return find_in(c, true, true); }},
    {"rjust", "/width fillchar?", [](BoundCall& c) { return justify(c, '>'); }},
    {"rpartition", "/sep", [](BoundCall& c) { return partition(c, true); }},
    {"rsplit", "sep? maxsplit?", [](BoundCall& c) { return split(c, true); }},
    {"rstrip", "/chars?", [](BoundCall& c) { return strip_side(c, Side::right); }},
    {"split", "sep? maxsplit?", [](BoundCall& c) { return split(c, false); }},
    {"splitlines", "keepends?", [](BoundCall& c) { return split_lines(c); }},
    {"startswith", "/prefix start? end?", [](BoundCall& c) { return starts_or_ends(c, false); }},
    {"strip", "/chars?", [](BoundCall& c) { return strip_side(c, Side::both); }},
    {"swapcase", "", [](BoundCall& c) -> Value { return swap_case(own_text(c)); }},
    {"title", "", [](BoundCall& c) -> Value { return title(own_text(c)); }},
    {"translate", "/table", [](BoundCall& c) { return translate(c); }},
    {"upper", "", [](BoundCall& c) -> Value { return upper(own_text(c)); }},
    {"zfill", "/width", [](BoundCall& c) { return zero_fill(c); }},
};

constexpr Builtin dict_methods[] = {
    {"copy", "", [](BoundCall& c) { return c.self; }},
    {"fromkeys", "/iterable value?",
     [](BoundCall& c) {
       auto dict = std::make_shared<DictObject>();
       for (Value& key : iterate(c[0])) dict->set(std::move(key), c.value_or(1, Value()));
       return Value(std::shared_ptr<const DictObject>(std::move(dict)));
     }},
    {"get", "/key default?",
     [](BoundCall& c) {
       const Value* found = c.self.dict().find(c[0]);
       return found ? *found : c.value_or(1, Value());
     }},
    {"items", "", dict_items},
    {"keys", "", [](BoundCall& c) { return iterable(IterableObject::Type::keys, iterate(c.self)); }},
    {"values", "", dict_values},
};

constexpr Builtin list_methods[] = {
    {"copy", "", [](BoundCall& c) { return c.self; }},
    {"count", "/value", list_count},
    {"index", "/value", list_index},
};

template <std::size_t n>
const Builtin* find(const Builtin (&table)[n], std::string_view name) {
  const Builtin* found = std::find_if(table, table + n, [&](const Builtin& row) { return row.name == name; });
  return found == table + n ? nullptr : found;
}

// Markup's methods: which arguments they escape, and that their texts are Markup.
void escape_arguments(std::string_view method, Arguments& arguments) {
  std::vector<Value>& given = arguments.positional;
  const auto escape_one = [&](std::size_t i) {
    if (i < given.size() && given[i].is_string()) given[i] = escaped(given[i]);
  };
  if (method == "replace" || method == "center" || method == "ljust" || method == "rjust") escape_one(1);
  if (method == "join" && !given.empty()) {
    std::vector<Value> items = iterate(given[0]);
    for (Value& item : items) item = escaped(item);
    given[0] = Value::list(std::move(items));
  }
  if (method != "format") return;
  for (std::size_t i = 0; i < given.size(); ++i) escape_one(i);
  for (auto& keyword : arguments.keywords)
    if (keyword.second.is_string()) keyword.second = escaped(keyword.second);
}

Value as_markup(const Value& value) {
  if (value.is_string()) return Value::markup(value.text());
  if (value.kind() != Kind::list) return value;
  std::vector<Value> items;
  for (const Value& item : value.list().items) items.push_back(as_markup(item));
  return value.list().is_tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

}  // namespace

Value call_method(Interpreter& interpreter, const Builtin& method, const Value& object, Arguments& arguments) {
  if (object.is_markup()) escape_arguments(method.name, arguments);
  BoundCall call(interpreter, method, object, arguments);
  Value result = method.function(call);
  return object.is_markup() ? as_markup(result) : result;
}

Value call_method(Interpreter& interpreter, std::string_view name, const Value& object, Arguments& arguments) {
  const Builtin* method = find_method(object, name);
  if (!method) fail("'{} object' has no attribute '{}'", type_name(object), name);
  return call_method(interpreter, *method, object, arguments);
}

const Builtin* find_method(const Value& object, std::string_view name) {
  if (object.is_string()) return find(string_methods, name);
  if (object.is_dict()) return find(dict_methods, name);
  if (object.kind() != Kind::list || (object.list().is_tuple && name == "copy")) return nullptr;
  return find(list_methods, name);
}

}  // namespace lathe::jinja
