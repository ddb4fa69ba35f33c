// Values of the template language: making, comparing and printing them.
#include "text/chat_template/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "text/unicode/python_text.h"

namespace lathe::jinja {

int depth_of(const Value& value) {
  switch (value.kind()) {
    case Kind::sequence: return value.sequence().depth;
    case Kind::dict: return value.dict().depth();
    case Kind::object: return value.object()->depth();
    default: return 0;
  }
}

int checked_depth(int depth) {
  if (depth > maximum_value_depth) fail("lists and dicts are nested more than {} deep", maximum_value_depth);
  return depth;
}

namespace {

int depth_over(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, depth_of(item));
  return checked_depth(depth + 1);
}

std::size_t bytes_of(const std::vector<Value>& items) {
  charge(static_cast<std::int64_t>(items.size()));
  return sizeof(SequenceObject) + 2 * items.size() * sizeof(Value);  // twice, because to iterate is to copy
}

}  // namespace

StringObject::StringObject(std::string value, bool is_safe)
    : Tracked(sizeof(StringObject) + 48 + value.size()),
      text(std::move(value)),
      length(count_characters(text)),
      is_safe(is_safe) {
  charge_text(text.size());
}

SequenceObject::SequenceObject(Type type, std::vector<Value> values)
    : Tracked(bytes_of(values)), type(type), items(std::move(values)), depth(depth_over(items)) {}

void DictObject::set(Value key, Value value) {
  if (!is_hashable(key)) fail("unhashable type: '{}'", type_name(key));
  depth_ = std::max(depth_, checked_depth(1 + std::max(depth_of(key), depth_of(value))));
  if (const Value* present = find(key)) {
    const_cast<Value&>(*present) = std::move(value);  // ours: only `set`, on a dict still being built, comes here
    return;
  }
  charge(1);
  grow(sizeof(entries_[0]) + (key.is_string() ? 48 : 0));
  if (key.is_string()) strings_.emplace(key.text(), entries_.size());  // the text stays where it is: it is shared
  entries_.emplace_back(std::move(key), std::move(value));
}

const Value* DictObject::find_text(std::string_view key) const {
  const auto found = strings_.find(key);
  return found == strings_.end() ? nullptr : &entries_[found->second].second;
}

const Value* DictObject::find(const Value& key) const {
  if (key.is_string()) return find_text(key.text());
  if (strings_.size() == entries_.size()) return nullptr;
  for (const auto& [name, value] : entries_)
    if (equal(name, key)) return &value;
  return nullptr;
}

std::vector<Value> DictObject::pairs() const {
  std::vector<Value> pairs;
  for (const auto& [key, value] : entries_) pairs.push_back(Value::tuple({key, value}));
  return pairs;
}

Value Value::safe_text(std::string text) {
  Value value;
  value.data_ = std::make_shared<const StringObject>(std::move(text), true);
  return value;
}

using Sequence = SequenceObject::Type;

Value Value::list(std::vector<Value> items) {
  return std::make_shared<SequenceObject>(Sequence::list, std::move(items));
}

Value Value::tuple(std::vector<Value> items) {
  return std::make_shared<SequenceObject>(Sequence::tuple, std::move(items));
}

Value Value::generator(std::vector<Value> items) {
  return std::make_shared<SequenceObject>(Sequence::generator, std::move(items));
}

Value Value::undefined(std::string problem) {
  return Value(Undefined{std::make_shared<const std::string>(std::move(problem))});
}

bool Value::is_list() const { return kind() == Kind::sequence && sequence().type <= Sequence::tuple; }
bool Value::is_tuple() const { return kind() == Kind::sequence && sequence().type == Sequence::tuple; }
bool Value::is_range() const { return kind() == Kind::sequence && sequence().type == Sequence::range; }
bool Value::is_generator() const { return kind() == Kind::sequence && sequence().type == Sequence::generator; }
const std::vector<Value>& Value::items() const { return sequence().items; }

namespace {

// The depth is known before the values are made, so that the recursion is bounded.
Value from_json(const nlohmann::ordered_json& json, int depth) {
  checked_depth(depth);
  using Type = nlohmann::ordered_json::value_t;
  switch (json.type()) {
    case Type::boolean: return json.get<bool>();
    case Type::number_integer: return json.get<std::int64_t>();
    case Type::number_unsigned:
      if (json.get<std::uint64_t>() > INT64_MAX) fail("the integer {} has more than 64 bits", json.dump());
      return json.get<std::int64_t>();
    case Type::number_float: return json.get<double>();
    case Type::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (const auto invalid = first_invalid_utf8(text))
        fail("a text of the messages is not UTF-8 at its byte {}", *invalid);
      return text;
    }
    case Type::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(from_json(item, depth + 1));
      return Value::list(std::move(items));
    }
    case Type::object: {
      auto dict = std::make_shared<DictObject>();
      for (const auto& [key, value] : json.items()) dict->set(key, from_json(value, depth + 1));
      return dict;
    }
    default: return {};
  }
}

}  // namespace

Value from_json(const nlohmann::ordered_json& json) { return from_json(json, 0); }

void require_defined(const Value& value) {
  if (value.is_undefined()) fail("{}", value.problem());
}

bool is_true(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
    case Kind::undefined: return false;
    case Kind::boolean: return value.boolean();
    case Kind::integer: return value.integer() != 0;
    case Kind::real: return value.real() != 0;
    case Kind::string: return !value.text().empty();
    case Kind::sequence: return value.is_generator() || !value.items().empty();
    case Kind::dict: return !value.dict().entries().empty();
    case Kind::object: return true;
  }
  return true;
}

std::string_view type_name(const Value& value) {
  constexpr std::string_view kinds[] = {"NoneType", "Undefined", "bool", "int", "float", "str", "", "dict"};
  constexpr std::string_view sequences[] = {"list",       "tuple", "dict_keys", "dict_values",
                                            "dict_items", "range", "generator"};
  if (value.kind() == Kind::object) return value.object()->type_name();
  if (value.kind() == Kind::sequence) return sequences[static_cast<int>(value.sequence().type)];
  return kinds[static_cast<int>(value.kind())];
}

bool is_hashable(const Value& value) {
  charge(1);
  if (value.is_dict()) return false;
  return !value.is_list() || (value.is_tuple() && std::all_of(value.items().begin(), value.items().end(), is_hashable));
}

bool is_number(const Value& value) {
  return value.kind() == Kind::boolean || value.kind() == Kind::integer || value.kind() == Kind::real;
}

std::optional<std::int64_t> as_integer(const Value& value) {
  if (value.kind() == Kind::boolean) return value.boolean();
  if (value.kind() == Kind::integer) return value.integer();
  return std::nullopt;
}

double as_real(const Value& value) {
  return value.kind() == Kind::real ? value.real() : static_cast<double>(*as_integer(value));
}

// As Python: the shortest digits that read back as the same number, with an exponent below 1e-4 and from 1e16 on.
std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  const std::string text = fmt::format("{}", value);
  return text.find_first_not_of("-0123456789") == text.npos ? text + ".0" : text;
}

int digit_value(char c) {
  const char lower = static_cast<char>(c | 0x20);
  return c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 36;
}

namespace {

// Without white space around and the underscores between digits; nothing where an underscore stands elsewhere.
std::optional<std::string> plain_digits(std::string_view text, int base) {
  text = python::strip(text, python::Side::both);
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_')
      result += text[i];
    else if (i == 0 || i + 1 == text.size() || digit_value(text[i - 1]) >= base || digit_value(text[i + 1]) >= base)
      return std::nullopt;
  }
  return result;
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  auto digits = plain_digits(text, base ? base : 36);
  if (!digits) return std::nullopt;
  const std::size_t sign = digits->starts_with('+') || digits->starts_with('-');
  const char marker = digits->size() > sign + 2 && (*digits)[sign] == '0' ? (*digits)[sign + 1] | 0x20 : 0;
  const int marked = marker == 'x' ? 16 : marker == 'o' ? 8 : marker == 'b' ? 2 : 0;
  if (marked && (base == marked || base == 0)) digits->erase(sign, 2);
  if (digits->size() == sign || digit_value((*digits)[sign]) == 36) return std::nullopt;
  if (digits->starts_with('+')) digits->erase(0, 1);
  std::int64_t value = 0;
  const char* end = digits->data() + digits->size();
  const auto result = std::from_chars(digits->data(), end, value, base ? base : marked ? marked : 10);
  if (result.ec == std::errc::result_out_of_range) fail("the integer {} has more than 64 bits", *digits);
  return result.ec == std::errc() && result.ptr == end ? std::optional(value) : std::nullopt;
}

std::optional<double> parse_real(std::string_view text) {
  auto digits = plain_digits(text, 10);
  if (!digits) return std::nullopt;
  if (digits->starts_with('+') && digits->size() > 1 && (*digits)[1] != '-') digits->erase(0, 1);
  double value = 0;
  const char* end = digits->data() + digits->size();
  const auto result = std::from_chars(digits->data(), end, value);
  if (result.ec == std::errc::result_out_of_range) return digits->starts_with('-') ? -HUGE_VAL : HUGE_VAL;
  return result.ec == std::errc() && result.ptr == end ? std::optional(value) : std::nullopt;
}

std::string ascii_escape(char32_t character) {
  const auto code = static_cast<std::uint32_t>(character);
  if (code < 0x100) return fmt::format("\\x{:02x}", code);
  return code < 0x10000 ? fmt::format("\\u{:04x}", code) : fmt::format("\\U{:08x}", code);
}

namespace {

// Written in pieces, because what is escaped becomes up to ten times as long.
void append_quoted(TextBuilder& output, std::string_view text) {
  const bool double_quotes = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string piece(1, quote);
  for (const auto [c, bytes] : characters(text)) {
    if (c == static_cast<unsigned char>(quote) || c == '\\')
      piece += fmt::format("\\{}", bytes);
    else if (c == '\n' || c == '\r' || c == '\t')
      piece += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    else
      piece += python::is_printable(c) ? std::string(bytes) : ascii_escape(c);
    if (piece.size() > 4000) output.append(std::exchange(piece, {}));
  }
  output.append(piece + quote);
}

}  // namespace

std::string python_quote(std::string_view text) {
  TextBuilder output;
  append_quoted(output, text);
  return output.take();
}

namespace {

void append_representation(TextBuilder& output, const Value& value);

void append_items(TextBuilder& output, const std::vector<Value>& items) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i) output.append(", ");
    append_representation(output, items[i]);
  }
}

void append_sequence(TextBuilder& output, const SequenceObject& sequence) {
  const auto enclosed = [&](std::string_view open, std::string_view close) {
    output.append(open);
    append_items(output, sequence.items);
    output.append(close);
  };
  switch (sequence.type) {
    case Sequence::list: return enclosed("[", "]");
    case Sequence::tuple: return enclosed("(", sequence.items.size() == 1 ? ",)" : ")");
    case Sequence::keys: return enclosed("dict_keys([", "])");
    case Sequence::values: return enclosed("dict_values([", "])");
    case Sequence::items: return enclosed("dict_items([", "])");
    case Sequence::generator: return output.append("<generator object>");
    case Sequence::range:
      output.append(fmt::format("range({}, {}", sequence.start, sequence.stop));
      output.append(sequence.step == 1 ? ")" : fmt::format(", {})", sequence.step));
  }
}

void append_representation(TextBuilder& output, const Value& value) {
  switch (value.kind()) {
    case Kind::none: return output.append("None");
    case Kind::undefined: return output.append("Undefined");
    case Kind::boolean: return output.append(value.boolean() ? "True" : "False");
    case Kind::integer: return output.append(std::to_string(value.integer()));
    case Kind::real: return output.append(real_text(value.real()));
    case Kind::string: return append_quoted(output, value.text());
    case Kind::sequence: return append_sequence(output, value.sequence());
    case Kind::dict: {
      output.append("{");
      bool first = true;
      for (const auto& [key, item] : value.dict().entries()) {
        if (!std::exchange(first, false)) output.append(", ");
        append_representation(output, key);
        output.append(": ");
        append_representation(output, item);
      }
      return output.append("}");
    }
    case Kind::object: return output.append(value.object()->representation());
  }
}

}  // namespace

std::string representation(const Value& value) {
  TextBuilder output;
  append_representation(output, value);
  return output.take();
}

void append_text(TextBuilder& output, const Value& value) {
  if (value.is_string()) return output.append(value.text());
  if (!value.is_undefined()) append_representation(output, value);
}

std::string joined(std::string_view separator, const std::vector<Value>& values) {
  TextBuilder output;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i) output.append(separator);
    append_text(output, values[i]);
  }
  return output.take();
}

std::string to_text(const Value& value) {
  if (value.is_string()) return value.text();
  return value.is_undefined() ? std::string() : representation(value);
}

namespace {

bool equal_items(const std::vector<Value>& a, const std::vector<Value>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
}

bool equal_dicts(const DictObject& a, const DictObject& b) {
  if (a.entries().size() != b.entries().size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (!other || !equal(value, *other)) return false;
  }
  return true;
}

int three_way(auto a, auto b) { return a < b ? -1 : a > b ? 1 : a == b ? 0 : 2; }

}  // namespace

bool equal(const Value& a, const Value& b) {
  charge(1);
  if (is_number(a) && is_number(b)) {
    const auto x = as_integer(a), y = as_integer(b);
    return x && y ? *x == *y : as_real(a) == as_real(b);
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::string: charge_text(a.text().size()); return a.text() == b.text();
    case Kind::sequence:
      if (a.sequence().type != b.sequence().type || (!a.is_list() && !a.is_range()))
        return &a.sequence() == &b.sequence();
      return equal_items(a.items(), b.items());
    case Kind::dict: return equal_dicts(a.dict(), b.dict());
    case Kind::object: return a.object() == b.object();
    default: return true;  // none and undefined
  }
}

int compare(const Value& a, const Value& b, std::string_view operation) {
  charge(1);
  require_defined(a), require_defined(b);
  if (is_number(a) && is_number(b)) {
    const auto x = as_integer(a), y = as_integer(b);
    return x && y ? three_way(*x, *y) : three_way(as_real(a), as_real(b));
  }
  if (a.is_string() && b.is_string()) {  // the order of UTF-8 bytes is that of code points
    charge_text(a.text().size());
    return three_way(a.text().compare(b.text()), 0);
  }
  if (a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
    const auto &x = a.items(), &y = b.items();
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal(x[i], y[i])) return compare(x[i], y[i], operation);
    return three_way(x.size(), y.size());
  }
  fail("'{}' not supported between instances of '{}' and '{}'", operation, type_name(a), type_name(b));
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.kind() == Kind::sequence || value.is_dict();
}

std::vector<Value> iterate(const Value& value) {
  std::vector<Value> items;
  if (!is_iterable(value)) fail("'{}' object is not iterable", type_name(value));
  if (value.is_string()) {
    charge(static_cast<std::int64_t>(value.text().size()));
    for (const auto [c, bytes] : characters(value.text())) items.emplace_back(bytes);
    return items;
  }
  if (value.is_generator())
    items.swap(value.sequence().items);
  else if (value.kind() == Kind::sequence)
    items = value.items();
  else if (value.is_dict())
    for (const auto& entry : value.dict().entries()) items.push_back(entry.first);
  charge(static_cast<std::int64_t>(items.size()));
  return items;
}

std::optional<std::size_t> length_of(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined: return 0;
    case Kind::string: return value.string().length;
    case Kind::dict: return value.dict().entries().size();
    case Kind::sequence: return value.is_generator() ? std::nullopt : std::optional(value.items().size());
    default: return std::nullopt;
  }
}

}  // namespace lathe::jinja
