// Values of the template language: making, comparing and printing them.
#include "text/chat_template/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "text/chat_template/unicode.h"

namespace lathe::jinja {

int depth_of(const Value& value) {
  switch (value.kind()) {
    case Kind::list: return value.list().depth;
    case Kind::dict: return value.dict().depth();
    case Kind::iterable: return value.iterable().depth;
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
  return sizeof(ListObject) + 2 * items.size() * sizeof(Value);  // twice, because to iterate is to copy
}

}  // namespace

StringObject::StringObject(std::string value, bool markup)
    : Tracked(sizeof(StringObject) + 48 + value.size()),
      text(std::move(value)),
      length(count_code_points(text)),
      is_markup(markup) {
  charge_text(text.size());
}

ListObject::ListObject(std::vector<Value> values, bool tuple, std::string_view field_names)
    : Tracked(bytes_of(values)),
      items(std::move(values)),
      is_tuple(tuple),
      names(field_names),
      depth(depth_over(items)) {}

IterableObject::IterableObject(Type type, std::vector<Value> values)
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

Value Value::markup(std::string text) {
  Value value;
  value.data_ = std::make_shared<const StringObject>(std::move(text), true);
  return value;
}

Value Value::list(std::vector<Value> items) {
  return Value(std::make_shared<const ListObject>(std::move(items), false));
}

Value Value::tuple(std::vector<Value> items) {
  return Value(std::make_shared<const ListObject>(std::move(items), true));
}

Value Value::named_tuple(std::vector<Value> items, std::string_view names) {
  return Value(std::make_shared<const ListObject>(std::move(items), true, names));
}

Value Value::generator(std::vector<Value> items) {
  return std::make_shared<IterableObject>(IterableObject::Type::generator, std::move(items));
}

Value Value::undefined(std::string problem) {
  return Value(Undefined{std::make_shared<const std::string>(std::move(problem))});
}

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
      if (const std::size_t valid = valid_utf8_prefix(text); valid != text.size())
        fail("a text of the messages is not UTF-8 at its byte {}", valid);
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
      return std::shared_ptr<const DictObject>(std::move(dict));
    }
    default: return {};
  }
}

}  // namespace

Value from_json(const nlohmann::ordered_json& json) { return from_json(json, 0); }

bool is_true(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
    case Kind::undefined: return false;
    case Kind::boolean: return value.boolean();
    case Kind::integer: return value.integer() != 0;
    case Kind::real: return value.real() != 0;
    case Kind::string: return !value.text().empty();
    case Kind::list: return !value.list().items.empty();
    case Kind::dict: return !value.dict().entries().empty();
    case Kind::iterable: return value.iterable().is_generator() || !value.iterable().items.empty();
    case Kind::object: return true;
  }
  return true;
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::none: return "NoneType";
    case Kind::undefined: return "Undefined";
    case Kind::boolean: return "bool";
    case Kind::integer: return "int";
    case Kind::real: return "float";
    case Kind::string: return "str";
    case Kind::list: return value.list().is_tuple ? "tuple" : "list";
    case Kind::dict: return "dict";
    case Kind::iterable: {
      constexpr std::string_view names[] = {"dict_keys", "dict_values", "dict_items", "range", "generator"};
      return names[static_cast<int>(value.iterable().type)];
    }
    case Kind::object: return value.object()->type_name();
  }
  return "object";
}

bool is_hashable(const Value& value) {
  charge(1);
  if (value.kind() == Kind::dict) return false;
  if (value.kind() != Kind::list) return true;
  const ListObject& list = value.list();
  return list.is_tuple && std::all_of(list.items.begin(), list.items.end(), is_hashable);
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
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, std::abs(value), std::chars_format::scientific).ptr;
  const std::string_view scientific(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = scientific.find('e');
  const int exponent = std::atoi(std::string(scientific.substr(e + 1)).c_str());
  std::string digits(1, scientific[0]);
  if (e > 2) digits += scientific.substr(2, e - 2);

  const std::string_view sign = std::signbit(value) ? "-" : "", all(digits);
  const int count = static_cast<int>(digits.size());
  const auto zeros = [](int n) { return std::string(static_cast<std::size_t>(n), '0'); };
  if (exponent < -4 || exponent >= 16) {
    const std::string_view point = count > 1 ? "." : "";
    return fmt::format("{}{}{}{}e{}{:02}", sign, all.substr(0, 1), point, all.substr(1), exponent < 0 ? '-' : '+',
                       std::abs(exponent));
  }
  if (exponent < 0) return fmt::format("{}0.{}{}", sign, zeros(-exponent - 1), all);
  if (count <= exponent + 1) return fmt::format("{}{}{}.0", sign, all, zeros(exponent + 1 - count));
  const auto whole = static_cast<std::size_t>(exponent + 1);
  return fmt::format("{}{}.{}", sign, all.substr(0, whole), all.substr(whole));
}

namespace {

// Written in pieces, because what is escaped becomes up to ten times as long.
void append_quoted(TextBuilder& output, std::string_view text) {
  const bool double_quotes = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string piece(1, quote);
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    const char32_t c = next_code_point(text, position);
    const auto code = static_cast<std::uint32_t>(c);
    const bool is_latin = c < 0x100;
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      piece += '\\';
      piece += static_cast<char>(c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      piece += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (is_latin ? c < 0x20 || (c >= 0x7f && c < 0xa1) || c == 0xad
                        : !is_in_class(c, CharacterClass::printable)) {
      piece += is_latin      ? fmt::format("\\x{:02x}", code)
               : c < 0x10000 ? fmt::format("\\u{:04x}", code)
                             : fmt::format("\\U{:08x}", code);
    } else {
      piece += text.substr(begin, position - begin);
    }
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

void append_iterable(TextBuilder& output, const IterableObject& iterable) {
  if (iterable.is_generator()) return output.append("<generator object>");
  if (iterable.type == IterableObject::Type::range) {
    output.append(fmt::format("range({}, {}", iterable.range_start, iterable.range_stop));
    return output.append(iterable.range_step == 1 ? ")" : fmt::format(", {})", iterable.range_step));
  }
  using Type = IterableObject::Type;
  output.append(iterable.type == Type::keys     ? "dict_keys(["
                : iterable.type == Type::values ? "dict_values(["
                                                : "dict_items([");
  append_items(output, iterable.items);
  output.append("])");
}

void append_representation(TextBuilder& output, const Value& value) {
  switch (value.kind()) {
    case Kind::none: return output.append("None");
    case Kind::undefined: return output.append("Undefined");
    case Kind::boolean: return output.append(value.boolean() ? "True" : "False");
    case Kind::integer: return output.append(std::to_string(value.integer()));
    case Kind::real: return output.append(real_text(value.real()));
    case Kind::string:
      if (value.is_markup()) output.append("Markup(");
      append_quoted(output, value.text());
      return value.is_markup() ? output.append(")") : void();
    case Kind::list: {
      const ListObject& list = value.list();
      output.append(list.is_tuple ? "(" : "[");
      append_items(output, list.items);
      return output.append(!list.is_tuple ? "]" : list.items.size() == 1 ? ",)" : ")");
    }
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
    case Kind::iterable: return append_iterable(output, value.iterable());
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
    case Kind::list: return a.list().is_tuple == b.list().is_tuple && equal_items(a.list().items, b.list().items);
    case Kind::dict: return equal_dicts(a.dict(), b.dict());
    case Kind::iterable:
      if (&a.iterable() == &b.iterable()) return true;
      return a.iterable().type == b.iterable().type && a.iterable().type == IterableObject::Type::range &&
             equal_items(a.iterable().items, b.iterable().items);
    case Kind::object: return a.object() == b.object();
    default: return true;  // none and undefined
  }
}

int compare(const Value& a, const Value& b, std::string_view operation) {
  charge(1);
  if (a.is_undefined()) fail("{}", a.problem());
  if (b.is_undefined()) fail("{}", b.problem());
  if (is_number(a) && is_number(b)) {
    const auto x = as_integer(a), y = as_integer(b);
    return x && y ? three_way(*x, *y) : three_way(as_real(a), as_real(b));
  }
  if (a.is_string() && b.is_string()) {  // the order of UTF-8 bytes is that of code points
    charge_text(a.text().size());
    return three_way(a.text().compare(b.text()), 0);
  }
  if (a.kind() == Kind::list && b.kind() == Kind::list && a.list().is_tuple == b.list().is_tuple) {
    const auto &x = a.list().items, &y = b.list().items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal(x[i], y[i])) return compare(x[i], y[i], operation);
    return three_way(x.size(), y.size());
  }
  fail("'{}' not supported between instances of '{}' and '{}'", operation, type_name(a), type_name(b));
}

Value escaped(const Value& value) {
  if (value.is_markup()) return value;
  TextBuilder output;
  for (const char c : to_text(value)) {
    switch (c) {
      case '&': output.append("&amp;"); break;
      case '<': output.append("&lt;"); break;
      case '>': output.append("&gt;"); break;
      case '"': output.append("&#34;"); break;
      case '\'': output.append("&#39;"); break;
      default: output.append(1, c);
    }
  }
  return Value::markup(output.take());
}

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
    case Kind::string:
    case Kind::list:
    case Kind::dict:
    case Kind::iterable: return true;
    default: return false;
  }
}

std::vector<Value> iterate(const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::undefined: return items;
    case Kind::string: {
      const std::string& text = value.text();
      charge(static_cast<std::int64_t>(text.size()));
      for (std::size_t position = 0; position < text.size();) {
        const std::size_t begin = position;
        next_code_point(text, position);
        items.emplace_back(text.substr(begin, position - begin));
      }
      return items;
    }
    case Kind::list: charge(static_cast<std::int64_t>(value.list().items.size())); return value.list().items;
    case Kind::dict:
      for (const auto& entry : value.dict().entries()) items.push_back(entry.first);
      charge(static_cast<std::int64_t>(items.size()));
      return items;
    case Kind::iterable: {
      IterableObject& iterable = value.iterable();
      charge(static_cast<std::int64_t>(iterable.items.size()));
      if (iterable.is_generator())
        items.swap(iterable.items);
      else
        items = iterable.items;
      return items;
    }
    default: fail("'{}' object is not iterable", type_name(value));
  }
}

std::optional<std::size_t> length_of(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined: return 0;
    case Kind::string: return value.string().length;
    case Kind::list: return value.list().items.size();
    case Kind::dict: return value.dict().entries().size();
    case Kind::iterable:
      if (value.iterable().is_generator()) return std::nullopt;
      return value.iterable().items.size();
    default: return std::nullopt;
  }
}

}  // namespace lathe::jinja
