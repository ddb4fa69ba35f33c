// The filters; jinja2/filters.py is the reference.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "text/chat_template/builtins.h"
#include "text/chat_template/format.h"
#include "text/chat_template/operators.h"
#include "text/unicode/python_text.h"

namespace lathe::jinja {
namespace {

// str(value) of the filtered value.
std::string self_text(const BoundCall& call) {
  std::string text = to_text(call.self);
  charge_text(text.size());
  return text;
}

// str(value).method(arguments).
Value call_method(BoundCall& call, std::string_view name, std::vector<Value> positional = {}) {
  Arguments arguments{std::move(positional), {}};
  return call_method(call.interpreter, name, call.self.is_string() ? call.self : Value(self_text(call)), arguments);
}

// What values are sorted and grouped by unless case counts.
Value lowered(const Value& value) {
  if (!value.is_string()) return value;
  if (!value.string().is_ascii()) charge_unicode(value.text().size());
  return python::lower(value.text());
}

// What an item is sorted, compared or told apart by: itself or what a path leads to.
Value key_of_item(const Value& item, const Value& path, bool case_sensitive) {
  Value key = follow_path(item, path);
  return case_sensitive ? key : lowered(key);
}

// --- one value

Value absolute(BoundCall& call) {
  if (!is_number(call.self)) fail("bad operand type for abs(): '{}'", type_name(call.self));
  return compare(call.self, Value(0), "<") == -1 ? negate(call.self) : positive(call.self);
}

Value default_value(BoundCall& call) {
  const bool is_missing = call.self.is_undefined() || (call.flag(1) && !is_true(call.self));
  return is_missing ? call.value_or(0, "") : call.self;
}

Value length(BoundCall& call) {
  const auto length = length_of(call.self);
  if (!length) fail("object of type '{}' has no len()", type_name(call.self));
  return *length;
}

std::optional<std::int64_t> truncated(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  if (std::abs(value) >= 9.2e18) fail("the integer of {} has more than 64 bits", real_text(value));
  return static_cast<std::int64_t>(value);
}

Value to_integer(BoundCall& call) {
  require_defined(call.self);
  std::optional<std::int64_t> value;
  if (call.self.is_string()) {
    const std::int64_t base = call.integer_or(1, 10);
    if (base != 0 && (base < 2 || base > 36)) fail("int() base must be >= 2 and <= 36, or 0");
    value = parse_integer(call.self.text(), static_cast<int>(base));
    if (const auto real = value ? std::nullopt : parse_real(call.self.text()))
      value = truncated(*real);  // "42.23" is 42
  } else if (is_number(call.self)) {
    value = call.self.kind() == Kind::real ? truncated(call.self.real()) : as_integer(call.self);
  }
  return value ? Value(*value) : call.value_or(0, 0);
}

Value to_real(BoundCall& call) {
  require_defined(call.self);
  std::optional<double> value;
  if (call.self.is_string()) value = parse_real(call.self.text());
  if (is_number(call.self)) value = as_real(call.self);
  return value ? Value(*value) : call.value_or(0, 0.0);
}

// Half to even on the exact binary value, which is how fmt (as Python) rounds when it prints.
double rounded(double value, std::int64_t precision) {
  if (!std::isfinite(value) || precision > 320) return value;
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return std::isfinite(scale) ? std::nearbyint(value / scale) * scale : 0.0;
  }
  const std::string text = fmt::format("{:.{}f}", value, precision);
  double result = 0;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

Value round_number(BoundCall& call) {
  const std::int64_t precision = call.integer_or(0, 0);
  const std::string method = call.has(1) ? call.text(1) : "common";
  if (!is_number(call.self)) fail("type {} cannot be rounded", type_name(call.self));
  if (method != "common" && method != "ceil" && method != "floor") fail("method must be common, ceil or floor");
  if (method == "common") {
    if (const auto integer = as_integer(call.self); integer && precision >= 0) return *integer;
    const double value = rounded(as_real(call.self), precision);
    return call.self.kind() == Kind::real ? Value(value) : Value(static_cast<std::int64_t>(value));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision)), value = as_real(call.self) * scale;
  return (method == "ceil" ? std::ceil(value) : std::floor(value)) / scale;
}

// Unlike str.title: words begin behind white space and - ( { [ < only.
Value title_words(BoundCall& call) {
  const std::string text = self_text(call);
  charge_unicode(text.size());
  std::string result;
  bool at_start = true;
  for (const auto [c, bytes] : characters(text)) {
    const bool separates = python::is_space(c) || std::string_view("-({[<").find(bytes) != std::string_view::npos;
    result += separates ? std::string(bytes) : at_start ? python::upper(bytes) : python::lower(bytes);
    at_start = separates;
  }
  return result;
}

// An indentation: a text, or so many spaces.
std::string indentation(const BoundCall& call, std::size_t parameter, std::int64_t otherwise) {
  if (call.has(parameter) && call[parameter].is_string()) return call[parameter].text();
  const auto width = static_cast<std::size_t>(std::max<std::int64_t>(call.integer_or(parameter, otherwise), 0));
  check_room(width);
  return std::string(width, ' ');
}

Value indent(BoundCall& call) {
  require_defined(call.self);
  if (!call.self.is_string()) fail("only a str can be indented, not {}", type_name(call.self));
  const std::string spaces = indentation(call, 0, 4);
  const bool first = call.flag(1), blank = call.flag(2);
  Arguments none;
  const Value lines = call_method(call.interpreter, "splitlines", call.self.text() + "\n", none);
  TextBuilder output;
  bool is_first = true;
  for (const Value& line : lines.items()) {
    if (!is_first) output.append("\n");
    if (is_first ? first : blank || !line.text().empty()) output.append(spaces);
    output.append(line.text());
    is_first = false;
  }
  return output.take();
}

Value json(BoundCall& call) {
  JsonStyle style;
  style.ascii_only = call.flag(0);
  style.sorts_keys = call.flag(3);
  if (call.has(1)) {
    style.indent = indentation(call, 1, 0);
    style.item_separator = std::string(",");  // g++ 12 warns of the plain literal
  }
  if (call.has(2)) {
    const std::vector<Value> separators = iterate(call[2]);
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string())
      fail("tojson: separators must be two strings");
    style.item_separator = separators[0].text(), style.key_separator = separators[1].text();
  }
  return to_json(call.self, style);
}

// --- sequences

Value first(BoundCall& call) {
  if (call.self.is_generator()) {  // leaves the rest
    std::vector<Value>& items = call.self.sequence().items;
    if (items.empty()) return Value::undefined("No first item, sequence was empty.");
    Value item = items.front();
    items.erase(items.begin());
    return item;
  }
  const std::vector<Value> items = iterate(call.self);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(BoundCall& call) {
  if (!length_of(call.self)) fail("'{}' object is not reversible", type_name(call.self));
  const std::vector<Value> items = iterate(call.self);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value reverse(BoundCall& call) {
  std::vector<Value> items = iterate(call.self);
  std::reverse(items.begin(), items.end());
  if (!call.self.is_string()) return Value::generator(std::move(items));
  TextBuilder output;
  for (const Value& item : items) output.append(item.text());
  return output.take();
}

Value join(BoundCall& call) {
  std::vector<Value> items = iterate(call.self);
  if (call.has(1))
    for (Value& item : items) item = follow_path(item, call[1]);
  return joined(call.has(0) ? to_text(call[0]) : "", items);
}

Value items(BoundCall& call) {
  if (call.self.is_undefined()) return Value::generator({});
  if (!call.self.is_dict()) fail("Can only get item pairs from a mapping.");
  return Value::generator(call.self.dict().pairs());
}

// Items with what they are sorted by. Stable, also when reversed.
struct Keyed {
  Value key, item;
};

void sort_keyed(std::vector<Keyed>& items, bool reverse) {
  std::stable_sort(items.begin(), items.end(), [reverse](const Keyed& a, const Keyed& b) {
    return reverse ? compare(b.key, a.key, "<") == -1 : compare(a.key, b.key, "<") == -1;
  });
}

std::vector<Value> without_keys(std::vector<Keyed> keyed) {
  std::vector<Value> items;
  for (Keyed& one : keyed) items.push_back(std::move(one.item));
  return items;
}

Value dict_sort(BoundCall& call) {
  require_defined(call.self);
  if (!call.self.is_dict()) fail("dictsort needs a dict, not {}", type_name(call.self));
  const std::string by = call.has(1) ? call.text(1) : "key";
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  std::vector<Keyed> pairs;
  for (const auto& [key, value] : call.self.dict().entries()) {
    const Value& sort_by = by == "key" ? key : value;
    pairs.push_back({call.flag(0) ? sort_by : lowered(sort_by), Value::tuple({key, value})});
  }
  sort_keyed(pairs, call.flag(2));
  return Value::list(without_keys(std::move(pairs)));
}

Value sort(BoundCall& call) {
  std::vector<Value> paths = {Value()};
  if (call.has(2)) {
    paths = {call[2]};
    if (call[2].is_string()) {  // "age,name" sorts by one, then the other
      Arguments comma{{","}, {}};
      paths = call_method(call.interpreter, "split", call[2], comma).items();
    }
  }
  std::vector<Keyed> keyed;
  for (Value& item : iterate(call.self)) {
    std::vector<Value> keys;
    for (const Value& path : paths) keys.push_back(key_of_item(item, path, call.flag(1)));
    keyed.push_back({Value::list(std::move(keys)), std::move(item)});
  }
  sort_keyed(keyed, call.flag(0));
  return Value::list(without_keys(std::move(keyed)));
}

Value extreme(BoundCall& call, bool is_maximum) {
  std::optional<Keyed> best;
  for (Value& item : iterate(call.self)) {
    Value key = key_of_item(item, call.value_or(1, Value()), call.flag(0));
    if (!best || compare(key, best->key, is_maximum ? ">" : "<") == (is_maximum ? 1 : -1))
      best = Keyed{std::move(key), std::move(item)};
  }
  return best ? best->item : Value::undefined("No aggregated item, sequence was empty.");
}

Value unique(BoundCall& call) {
  std::vector<Value> seen, items;
  for (Value& item : iterate(call.self)) {
    Value key = key_of_item(item, call.value_or(1, Value()), call.flag(0));
    if (!is_hashable(key)) fail("unhashable type: '{}'", type_name(key));
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& other) { return equal(key, other); })) continue;
    seen.push_back(std::move(key));
    items.push_back(std::move(item));
  }
  return Value::generator(std::move(items));
}

Value sum(BoundCall& call) {
  Value total = call.value_or(1, 0);
  if (total.is_string()) fail("sum() can't sum strings; use the join filter");
  for (const Value& item : iterate(call.self)) total = add(total, follow_path(item, call.value_or(0, Value())));
  return total;
}

// --- filters that take a filter or a test

// The name that an argument gives.
const std::string& name_of(const Value& name, const char* what) {
  if (!name.is_string()) fail("no {} named {}", what, representation(name));
  return name.text();
}

Value map(BoundCall& call) {
  if (!is_true(call.self)) return Value::generator({});
  std::vector<Value> results;
  Arguments& arguments = call.arguments;
  if (arguments.positional.empty()) {
    constexpr Builtin by_attribute = {"map", "attribute default?", nullptr};
    const BoundCall bound(call.interpreter, by_attribute, "map", call.self, arguments);
    for (const Value& item : iterate(call.self))
      results.push_back(follow_path(item, bound[0], bound.value_or(1, Value())));
    return Value::generator(std::move(results));
  }
  const std::string& name = name_of(arguments.positional[0], "filter");
  const Builtin& filter = require_builtin(find_filter, "filter", name);
  for (const Value& item : iterate(call.self)) {
    Arguments rest{{arguments.positional.begin() + 1, arguments.positional.end()}, arguments.keywords};
    charge(1);
    results.push_back(call_builtin(call.interpreter, filter, name, item, rest));
  }
  return Value::generator(std::move(results));
}

Value select(BoundCall& call, bool wanted, bool by_attribute) {
  if (!is_true(call.self)) return Value::generator({});
  const std::vector<Value>& given = call.arguments.positional;
  const std::size_t offset = by_attribute ? 1 : 0;
  if (given.size() < offset) fail("missing parameter for attribute name");
  const bool has_test = given.size() > offset;
  const std::string name = has_test ? name_of(given[offset], "test") : "";
  const Builtin* test = has_test ? &require_builtin(find_test, "test", name) : nullptr;
  std::vector<Value> items;
  for (Value& item : iterate(call.self)) {
    Value subject = by_attribute ? follow_path(item, given[0]) : item;
    if (test) {
      Arguments rest{{given.begin() + static_cast<std::ptrdiff_t>(offset) + 1, given.end()}, call.arguments.keywords};
      charge(1);
      subject = call_builtin(call.interpreter, *test, name, subject, rest);
    }
    if (is_true(subject) == wanted) items.push_back(std::move(item));
  }
  return Value::generator(std::move(items));
}

Value format(BoundCall& call) {
  const Arguments& arguments = call.arguments;
  if (!arguments.positional.empty() && !arguments.keywords.empty())
    fail("format: can't handle positional and keyword arguments at the same time");
  auto dict = std::make_shared<DictObject>();
  for (const auto& [name, value] : arguments.keywords) dict->set(name, value);
  return modulo(self_text(call), arguments.keywords.empty() ? Value::tuple(arguments.positional) : Value(dict));
}

Value attribute(BoundCall& call) {
  const auto found = python_attribute(call.self, call.text(0));
  return found ? *found
               : Value::undefined(fmt::format("'{} object' has no attribute '{}'", type_name(call.self), call.text(0)));
}

constexpr Builtin filters[] = {
    {"batch center e escape filesizeformat forceescape groupby pprint slice striptags truncate urlencode urlize "
     "wordcount "
     "wordwrap xmlattr",
     "*", refused},
    {"abs", "", absolute},
    {"attr", "name", attribute},
    {"capitalize", "", [](BoundCall& c) { return call_method(c, "capitalize"); }},
    {"default d", "default_value? boolean?", default_value},
    {"dictsort", "case_sensitive? by? reverse?", dict_sort},
    {"first", "", first},
    {"float", "default?", to_real},
    {"format", "*", format},
    {"indent", "width? first? blank?", indent},
    {"int", "default? base?", to_integer},
    {"items", "", items},
    {"join", "d? attribute?", join},
    {"last", "", last},
    {"length count", "", length},
    {"list", "", [](BoundCall& c) { return Value::list(iterate(c.self)); }},
    {"lower", "", [](BoundCall& c) { return call_method(c, "lower"); }},
    {"map", "*", map},
    {"max", "case_sensitive? attribute?", [](BoundCall& c) { return extreme(c, true); }},
    {"min", "case_sensitive? attribute?", [](BoundCall& c) { return extreme(c, false); }},
    {"reject", "*", [](BoundCall& c) { return select(c, false, false); }},
    {"rejectattr", "*", [](BoundCall& c) { return select(c, false, true); }},
    {"replace", "old new count?",
     [](BoundCall& c) {
       Arguments arguments{{to_text(c[0]), to_text(c[1]), c.value_or(2, -1)}, {}};
       return call_method(c.interpreter, "replace", self_text(c), arguments);
     }},
    {"reverse", "", reverse},
    {"round", "precision? method?", round_number},
    {"safe", "", [](BoundCall& c) { return Value::safe_text(self_text(c)); }},
    {"select", "*", [](BoundCall& c) { return select(c, true, false); }},
    {"selectattr", "*", [](BoundCall& c) { return select(c, true, true); }},
    {"sort", "reverse? case_sensitive? attribute?", sort},
    {"string", "", [](BoundCall& c) { return c.self.is_string() ? c.self : Value(self_text(c)); }},
    {"sum", "attribute? start?", sum},
    {"title", "", title_words},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", json},
    {"trim", "chars?", [](BoundCall& c) { return call_method(c, "strip", {c.value_or(0, Value())}); }},
    {"unique", "case_sensitive? attribute?", unique},
    {"upper", "", [](BoundCall& c) { return call_method(c, "upper"); }},
};

}  // namespace

const Builtin* find_filter(std::string_view name) { return find_builtin(filters, name); }

}  // namespace lathe::jinja
