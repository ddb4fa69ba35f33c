// The methods of str, dict, list and tuple; Python's own documentation is the reference.
#include <algorithm>
#include <utility>

#include "text/chat_template/builtins.h"
#include "text/chat_template/format.h"
#include "text/chat_template/operators.h"
#include "text/unicode/python_text.h"
#include "text/unicode/unicode.h"

namespace lathe::jinja {
namespace {

const std::string& own_text(const BoundCall& call) {
  charge_text(call.self.text().size());
  return call.self.text();
}

// Whose characters are looked up in Unicode's tables.
const std::string& looked_up_text(const BoundCall& call) {
  charge_unicode(call.self.text().size());
  return own_text(call);
}

// Whose case is changed, which takes no table for ASCII.
const std::string& cased_text(const BoundCall& call) {
  return call.self.string().is_ascii() ? own_text(call) : looked_up_text(call);
}

// text[start:end] of a method's optional bounds, and the character that it begins at.
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
  const auto offset = [&](std::int64_t index) { return call.self.string().offset(static_cast<std::size_t>(index)); };
  return {std::string_view(text).substr(offset(first), offset(last) - offset(first)), first};
}

Value find_in(const BoundCall& call, bool from_right, bool must_exist) {
  const std::string& part = call.text(0);
  const auto [text, first] = window(call, 1);
  const std::size_t found = first < 0 ? text.npos : from_right ? find_last_text(text, part) : find_text(text, part);
  if (found == text.npos && must_exist) fail("substring not found");
  if (found == text.npos) return -1;
  return first + static_cast<std::int64_t>(count_characters(text.substr(0, found)));
}

Value starts_or_ends(const BoundCall& call, bool at_end) {
  const auto [text, first] = window(call, 1);
  const auto matches = [&, text = text, first = first](const Value& part) {
    if (!part.is_string())
      fail("{} first arg must be str or a tuple of str, not {}", at_end ? "endswith" : "startswith", type_name(part));
    return first >= 0 && (at_end ? text.ends_with(part.text()) : text.starts_with(part.text()));
  };
  if (!call[0].is_tuple()) return matches(call[0]);
  return std::any_of(call[0].items().begin(), call[0].items().end(), matches);
}

Value replace(const BoundCall& call) {
  const std::string &text = own_text(call), &from = call.text(0), &to = call.text(1);
  const std::string_view all = text;
  TextBuilder output;
  std::size_t position = 0, found;
  for (std::int64_t left = call.integer_or(2, -1); left != 0; left -= left > 0) {
    if ((found = find_text(text, from, position)) == all.npos) break;
    output.append(all.substr(position, found - position));
    output.append(to);
    position = found + from.size();
    if (!from.empty()) continue;
    if (position == all.size()) break;  // an empty string is found between all characters, and at the end
    const std::size_t length = character_length(all[position]);
    output.append(all.substr(position, length));
    position += length;
  }
  output.append(all.substr(position));
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

// At white space: `limit` words from one end, the rest with its outer space as one more; all words if negative.
std::vector<Value> split_at_space(std::string_view text, std::int64_t limit, bool from_right) {
  std::vector<std::string_view> words;
  bool in_word = false;
  for (const auto [c, bytes] : characters(text)) {
    const bool is_space = python::is_space(c);
    if (!is_space && !in_word) words.push_back(bytes);
    if (!is_space && in_word) words.back() = {words.back().data(), words.back().size() + bytes.size()};
    in_word = !is_space;
  }
  const std::size_t count = words.size(), taken = limit < 0 ? count : std::min(static_cast<std::size_t>(limit), count);
  if (taken < count && from_right) {
    const std::string_view last = words[count - taken - 1];
    words.erase(words.begin(), words.end() - static_cast<std::ptrdiff_t>(taken) - 1);
    words[0] = {text.data(), static_cast<std::size_t>(last.data() + last.size() - text.data())};
  } else if (taken < count) {
    words.resize(taken + 1);
    words[taken] = text.substr(static_cast<std::size_t>(words[taken].data() - text.data()));
  }
  return {words.begin(), words.end()};
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
    const char32_t c = next_character(text, position);
    if (!python::is_line_break(c)) continue;
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

std::vector<Value> texts_of(const Value& iterable) {
  std::vector<Value> texts = iterate(iterable);
  for (const Value& text : texts)
    if (!text.is_string()) fail("str.join: expected str instances, {} found", type_name(text));
  return texts;
}

Value strip_side(const BoundCall& call, python::Side side) {
  return Value(python::strip(own_text(call), side, call.has(0) ? &call.text(0) : nullptr));
}

using Class = bool (*)(char32_t);

// Not empty, and every character in one of the classes.
bool all_in(const BoundCall& call, std::initializer_list<Class> classes) {
  for (const auto [c, bytes] : characters(looked_up_text(call)))
    if (std::none_of(classes.begin(), classes.end(), [c = c](Class has) { return has(c); })) return false;
  return !call.self.text().empty();
}

// Has letters of this case, and none of the other.
bool is_in_case(const BoundCall& call, Class wanted, Class other) {
  bool found = false;
  for (const auto [c, bytes] : characters(looked_up_text(call))) {
    if (other(c) || is_titlecase(c)) return false;
    found |= wanted(c);
  }
  return found;
}

Value count_text(const BoundCall& call) {
  const std::string& part = call.text(0);
  const auto [text, first] = window(call, 1);
  if (first < 0) return 0;
  if (part.empty()) return count_characters(text) + 1;
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

Value view(SequenceObject::Type type, std::vector<Value> items) {
  return std::make_shared<SequenceObject>(type, std::move(items));
}

Value dict_values(BoundCall& call) {
  std::vector<Value> items;
  for (const auto& entry : call.self.dict().entries()) items.push_back(entry.second);
  return view(SequenceObject::Type::values, std::move(items));
}

Value list_index(BoundCall& call) {
  const std::vector<Value>& items = call.self.items();
  const auto found = std::find_if(items.begin(), items.end(), [&](const Value& item) { return equal(item, call[0]); });
  if (found == items.end()) fail("{} is not in list", representation(call[0]));
  return found - items.begin();
}

Value list_count(BoundCall& call) {
  const std::vector<Value>& items = call.self.items();
  return std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(item, call[0]); });
}

constexpr Builtin string_methods[] = {
    {"center expandtabs isidentifier isprintable istitle ljust rjust swapcase translate zfill", "*", refused},
    {"capitalize", "", [](BoundCall& c) -> Value { return python::capitalize(cased_text(c)); }},
    {"casefold", "", [](BoundCall& c) -> Value { return fold_case(looked_up_text(c)); }},
    {"count", "/sub start? end?", [](BoundCall& c) { return count_text(c); }},
    {"endswith", "/suffix start? end?", [](BoundCall& c) { return starts_or_ends(c, true); }},
    {"find", "/sub start? end?", [](BoundCall& c) { return find_in(c, false, false); }},
    {"format", "*", [](BoundCall& c) -> Value { return format_braces(own_text(c), c.arguments); }},
    {"index", "/sub start? end?", [](BoundCall& c) { return find_in(c, false, true); }},
    {"isalnum", "",
     [](BoundCall& c) -> Value {
       return all_in(c, {is_letter, is_numeric});
     }},
    {"isalpha", "", [](BoundCall& c) -> Value { return all_in(c, {is_letter}); }},
    {"isascii", "", [](BoundCall& c) -> Value { return c.self.string().is_ascii(); }},
    {"isdecimal", "", [](BoundCall& c) -> Value { return all_in(c, {is_decimal}); }},
    {"isdigit", "", [](BoundCall& c) -> Value { return all_in(c, {python::is_digit}); }},
    {"islower", "", [](BoundCall& c) -> Value { return is_in_case(c, is_lowercase, is_uppercase); }},
    {"isnumeric", "", [](BoundCall& c) -> Value { return all_in(c, {is_numeric}); }},
    {"isspace", "", [](BoundCall& c) -> Value { return all_in(c, {python::is_space}); }},
    {"isupper", "", [](BoundCall& c) -> Value { return is_in_case(c, is_uppercase, is_lowercase); }},
    {"join", "/iterable", [](BoundCall& c) -> Value { return joined(own_text(c), texts_of(c[0])); }},
    {"lower", "", [](BoundCall& c) -> Value { return python::lower(cased_text(c)); }},
    {"lstrip", "/chars?", [](BoundCall& c) { return strip_side(c, python::Side::left); }},
    {"partition", "/sep", [](BoundCall& c) { return partition(c, false); }},
    {"removeprefix", "/prefix", [](BoundCall& c) { return remove_affix(c, false); }},
    {"removesuffix", "/suffix", [](BoundCall& c) { return remove_affix(c, true); }},
    {"replace", "/old new count?", [](BoundCall& c) { return replace(c); }},
    {"rfind", "/sub start? end?", [](BoundCall& c) { return find_in(c, true, false); }},
    {"rindex", "/sub start? end?", [](BoundCall& c) { return find_in(c, true, true); }},
    {"rpartition", "/sep", [](BoundCall& c) { return partition(c, true); }},
    {"rsplit", "sep? maxsplit?", [](BoundCall& c) { return split(c, true); }},
    {"rstrip", "/chars?", [](BoundCall& c) { return strip_side(c, python::Side::right); }},
    {"split", "sep? maxsplit?", [](BoundCall& c) { return split(c, false); }},
    {"splitlines", "keepends?", [](BoundCall& c) { return split_lines(c); }},
    {"startswith", "/prefix start? end?", [](BoundCall& c) { return starts_or_ends(c, false); }},
    {"strip", "/chars?", [](BoundCall& c) { return strip_side(c, python::Side::both); }},
    {"title", "", [](BoundCall& c) -> Value { return python::title(looked_up_text(c)); }},
    {"upper", "", [](BoundCall& c) -> Value { return python::upper(cased_text(c)); }},
};

constexpr Builtin dict_methods[] = {
    {"copy", "", [](BoundCall& c) { return c.self; }},
    {"fromkeys", "/iterable value?",
     [](BoundCall& c) {
       auto dict = std::make_shared<DictObject>();
       for (Value& key : iterate(c[0])) dict->set(std::move(key), c.value_or(1, Value()));
       return Value(dict);
     }},
    {"get", "/key default?",
     [](BoundCall& c) {
       const Value* found = c.self.dict().find(c[0]);
       return found ? *found : c.value_or(1, Value());
     }},
    {"items", "", [](BoundCall& c) { return view(SequenceObject::Type::items, c.self.dict().pairs()); }},
    {"keys", "", [](BoundCall& c) { return view(SequenceObject::Type::keys, iterate(c.self)); }},
    {"values", "", dict_values},
};

constexpr Builtin list_methods[] = {
    {"copy", "", [](BoundCall& c) { return c.self; }},
    {"count", "/value", list_count},
    {"index", "/value", list_index},
};

}  // namespace

Value call_method(Interpreter& interpreter, std::string_view name, const Value& object, Arguments& arguments) {
  const Builtin* method = find_method(object, name);
  if (!method) fail("'{} object' has no attribute '{}'", type_name(object), name);
  return call_builtin(interpreter, *method, name, object, arguments);
}

const Builtin* find_method(const Value& object, std::string_view name) {
  if (object.is_string()) return find_builtin(string_methods, name);
  if (object.is_dict()) return find_builtin(dict_methods, name);
  if (!object.is_list() || (object.is_tuple() && name == "copy")) return nullptr;
  return find_builtin(list_methods, name);
}

}  // namespace lathe::jinja
