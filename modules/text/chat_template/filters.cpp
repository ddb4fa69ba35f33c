// The filters; jinja2/filters.py is the reference.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "text/chat_template/builtins.h"
#include "text/chat_template/format.h"
#include "text/chat_template/operators.h"
#include "text/chat_template/text_filters.h"
#include "text/chat_template/unicode.h"

namespace lathe::jinja {
namespace {

// str(value) of the filtered value.
std::string self_text(const BoundCall& call) {
  std::string text = to_text(call.self);
  charge_text(text.size());
  return text;
}

// str(value).method(arguments); Markup stays what it is.
Value call_method(BoundCall& call, std::string_view name, std::vector<Value> positional = {}) {
  Arguments arguments{std::move(positional), {}};
  return call_method(call.interpreter, name, call.self.is_string() ? call.self : Value(self_text(call)), arguments);
}

Value lowered(const Value& value) { return value.is_string() ? Value(lower(value.text())) : value; }

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

// Python's int(text, base): spaces around, a sign, underscores between digits, the base's prefix.
std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  std::string digits;
  text = strip(text, Side::both);
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    if (text[0] == '-') digits += '-';
    text.remove_prefix(1);
  }
  const char marker = text.size() > 2 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : '\0';
  const int marked = marker == 'x' ? 16 : marker == 'o' ? 8 : marker == 'b' ? 2 : 0;
  if (marked && (base == marked || base == 0)) text.remove_prefix(2);
  if (base == 0) base = marked ? marked : 10;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool between = i > 0 && i + 1 < text.size() && text[i - 1] != '_';
    if (text[i] == '_' ? !between : text[i] == '-') return std::nullopt;
    if (text[i] != '_') digits += text[i];
  }
  std::int64_t value = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (result.ec == std::errc::result_out_of_range) fail("the integer {} has more than 64 bits", digits);
  if (result.ec != std::errc() || result.ptr != digits.data() + digits.size()) return std::nullopt;
  return value;
}

// Without the underscores between digits; nothing where one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  const auto is_digit = [&](std::size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_')
      result += text[i];
    else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1))
      return std::nullopt;
  }
  return result;
}

std::optional<double> parse_real(std::string_view given) {
  const auto digits = without_underscores(strip(given, Side::both));
  if (!digits) return std::nullopt;
  std::string_view text = *digits;
  if (text.starts_with('+') && text.size() > 1 && text[1] != '-') text.remove_prefix(1);
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc::result_out_of_range) return text.starts_with('-') ? -HUGE_VAL : HUGE_VAL;
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> truncated(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  if (std::abs(value) >= 9.2e18) fail("the integer of {} has more than 64 bits", real_text(value));
  return static_cast<std::int64_t>(value);
}

Value to_integer(BoundCall& call) {
  if (call.self.is_undefined()) fail("{}", call.self.problem());
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
  if (call.self.is_undefined()) fail("{}", call.self.problem());
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
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    const char32_t c = next_code_point(text, position);
    const std::string_view character = std::string_view(text).substr(begin, position - begin);
    const bool separates =
        is_space(c) || (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) != std::string_view::npos);
    result += separates ? std::string(character) : at_start ? upper(character) : lower(character);
    at_start = separates;
  }
  return result;
}

Value word_count(BoundCall& call) {
  const std::string text = self_text(call);
  charge_unicode(text.size());
  std::int64_t count = 0;
  bool in_word = false;
  for (std::size_t position = 0; position < text.size();) {
    const bool is_word = is_in_class(next_code_point(text, position), CharacterClass::word);
    count += is_word && !in_word;
    in_word = is_word;
  }
  return count;
}

Value indent(BoundCall& call) {
  if (call.self.is_undefined()) fail("{}", call.self.problem());
  if (!call.self.is_string()) fail("only a str can be indented, not {}", type_name(call.self));
  std::string indentation;
  if (call.has(0) && call[0].is_string()) {
    indentation = call[0].text();
  } else {
    const auto width = static_cast<std::size_t>(std::max<std::int64_t>(call.integer_or(0, 4), 0));
    check_room(width);
    indentation.assign(width, ' ');
  }
  const bool first = call.flag(1), blank = call.flag(2);
  Arguments none;
  const Value lines = call_method(call.interpreter, "splitlines", call.self.text() + "\n", none);
  TextBuilder output;
  bool is_first = true;
  for (const Value& line : lines.list().items) {
    if (!is_first) output.append("\n");
    if (is_first ? first : blank || !line.text().empty()) output.append(indentation);
    output.append(line.text());
    is_first = false;
  }
  return call.self.is_markup() ? Value::markup(output.take()) : Value(output.take());
}

Value truncate(BoundCall& call) {
  const std::string end = call.has(2) ? call.text(2) : "...";
  const std::int64_t length = call.integer_or(0, 255), leeway = call.integer_or(3, 5);
  const auto end_length = static_cast<std::int64_t>(count_code_points(end));
  if (length < end_length || leeway < 0) fail("truncate: expected length >= {}, got {}", end_length, length);
  const auto given = length_of(call.self);
  if (!given) fail("object of type '{}' has no len()", type_name(call.self));
  if (static_cast<std::int64_t>(*given) - leeway <= length) return call.self;
  if (!call.self.is_string()) fail("only a str can be truncated, not {}", type_name(call.self));
  std::string text = get_slice(call.self, Value(), Value(length - end_length), Value()).text();
  if (!call.flag(1)) text.resize(std::min(text.rfind(' '), text.size()));
  return call.self.is_markup() ? add(Value::markup(std::move(text)), end) : Value(text + end);
}

Value json(BoundCall& call) {
  JsonStyle style;
  style.ascii_only = call.flag(0);
  style.sorts_keys = call.flag(3);
  if (call.has(1)) {
    style.indent = call[1].is_string()
                       ? call[1].text()
                       : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(call.integer(1), 0, 1000)), ' ');
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
  if (call.self.kind() == Kind::iterable && call.self.iterable().is_generator()) {  // leaves the rest
    std::vector<Value>& items = call.self.iterable().items;
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
  return call.self.is_markup() ? Value::markup(output.take()) : Value(output.take());
}

Value join(BoundCall& call) {
  const std::string separator = call.has(0) ? to_text(call[0]) : "";
  TextBuilder output;
  bool is_first = true;
  for (const Value& item : iterate(call.self)) {
    if (!std::exchange(is_first, false)) output.append(separator);
    append_text(output, call.has(1) ? follow_path(item, call[1]) : item);
  }
  return output.take();
}

Value items(BoundCall& call) {
  if (call.self.is_undefined()) return Value::generator({});
  if (!call.self.is_dict()) fail("Can only get item pairs from a mapping.");
  std::vector<Value> pairs;
  for (const auto& [key, value] : call.self.dict().entries()) pairs.push_back(Value::tuple({key, value}));
  return Value::generator(std::move(pairs));
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
  if (call.self.is_undefined()) fail("{}", call.self.problem());
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
      paths = call_method(call.interpreter, "split", call[2], comma).list().items;
    }
  }
  std::vector<Keyed> keyed;
  for (Value& item : iterate(call.self)) {
    std::vector<Value> keys;
    for (const Value& path : paths)
      keys.push_back(call.flag(1) ? follow_path(item, path) : lowered(follow_path(item, path)));
    keyed.push_back({Value::list(std::move(keys)), std::move(item)});
  }
  sort_keyed(keyed, call.flag(0));
  return Value::list(without_keys(std::move(keyed)));
}

Value extreme(BoundCall& call, bool is_maximum) {
  std::optional<Keyed> best;
  for (Value& item : iterate(call.self)) {
    Value key = follow_path(item, call.value_or(1, Value()));
    if (!call.flag(0)) key = lowered(key);
    if (!best || compare(key, best->key, is_maximum ? ">" : "<") == (is_maximum ? 1 : -1))
      best = Keyed{std::move(key), std::move(item)};
  }
  return best ? best->item : Value::undefined("No aggregated item, sequence was empty.");
}

Value unique(BoundCall& call) {
  std::vector<Value> seen, items;
  for (Value& item : iterate(call.self)) {
    Value key = follow_path(item, call.value_or(1, Value()));
    if (!call.flag(0)) key = lowered(key);
    if (!is_hashable(key)) fail("unhashable type: '{}'", type_name(key));
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& other) { return equal(key, other); })) continue;
    seen.push_back(std::move(key));
    items.push_back(std::move(item));
  }
  return Value::generator(std::move(items));
}

// (group, items) by attribute, sorted by it.
Value group_by(BoundCall& call) {
  std::vector<Keyed> keyed;
  for (Value& item : iterate(call.self)) {
    Value key = follow_path(item, call[0], call.value_or(1, Value()));
    keyed.push_back({std::move(key), std::move(item)});
  }
  const bool case_sensitive = call.flag(2);
  const auto sort_key = [&](const Value& key) { return case_sensitive ? key : lowered(key); };
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    return compare(sort_key(a.key), sort_key(b.key), "<") == -1;
  });
  std::vector<Value> groups, members;
  for (std::size_t i = 0; i < keyed.size(); ++i) {
    members.push_back(keyed[i].item);
    if (i + 1 < keyed.size() && equal(sort_key(keyed[i].key), sort_key(keyed[i + 1].key))) continue;
    Value group = keyed[i + 1 - members.size()].key;
    groups.push_back(Value::named_tuple({std::move(group), Value::list(std::exchange(members, {}))}, "grouper list"));
  }
  return Value::list(std::move(groups));
}

Value sum(BoundCall& call) {
  Value total = call.value_or(1, 0);
  if (total.is_string()) fail("sum() can't sum strings; use the join filter");
  for (const Value& item : iterate(call.self)) total = add(total, follow_path(item, call.value_or(0, Value())));
  return total;
}

Value batch(BoundCall& call) {
  const std::int64_t size = call.integer(0);
  std::vector<Value> rows, row;
  for (Value& item : iterate(call.self)) {
    if (static_cast<std::int64_t>(row.size()) == size) rows.push_back(Value::list(std::exchange(row, {})));
    row.push_back(std::move(item));
  }
  if (!row.empty() && call.has(1) && size > 0) {
    check_room(static_cast<std::size_t>(std::min<std::int64_t>(size, INT64_MAX / 64)) * sizeof(Value));
    row.resize(std::max(row.size(), static_cast<std::size_t>(size)), call[1]);
  }
  if (!row.empty()) rows.push_back(Value::list(std::move(row)));
  return Value::generator(std::move(rows));
}

Value slice(BoundCall& call) {
  const std::vector<Value> items = iterate(call.self);
  const std::int64_t slices = call.integer(0);
  if (slices == 0) fail("integer division or modulo by zero");
  if (slices > 100000) fail("slice: more than 100000 slices");
  const auto length = static_cast<std::int64_t>(items.size());
  std::vector<Value> rows;
  for (std::int64_t i = 0, begin = 0; i < slices; ++i) {
    const bool has_extra = i < length % slices;
    const std::int64_t end = begin + length / slices + has_extra;
    std::vector<Value> row(items.begin() + begin, items.begin() + end);
    if (call.has(1) && !has_extra) row.push_back(call[1]);
    rows.push_back(Value::list(std::move(row)));
    begin = end;
  }
  return Value::generator(std::move(rows));
}

// --- filters that take a filter or a test

Value apply(Interpreter& interpreter, const Builtin& builtin, const Value& value, Arguments arguments) {
  charge(1);
  BoundCall call(interpreter, builtin, value, arguments);
  return builtin.function(call);
}

const Builtin& named_builtin(const Value& name, const Builtin* (*find)(std::string_view), const char* what) {
  const Builtin* builtin = name.is_string() ? find(name.text()) : nullptr;
  if (!builtin) fail("no {} named {}", what, representation(name));
  return *builtin;
}

Value map(BoundCall& call) {
  if (!is_true(call.self)) return Value::generator({});
  std::vector<Value> results;
  Arguments& arguments = call.arguments;
  if (arguments.positional.empty()) {
    Value attribute, otherwise;
    for (const auto& [name, value] : arguments.keywords) {
      if (name == "attribute")
        attribute = value;
      else if (name == "default")
        otherwise = value;
      else
        fail("map: unexpected keyword argument '{}'", name);
    }
    if (attribute.is_none()) fail("map requires a filter argument");
    for (const Value& item : iterate(call.self)) {
      results.push_back(follow_path(item, attribute, otherwise));
    }
    return Value::generator(std::move(results));
  }
  const Builtin& filter = named_builtin(arguments.positional[0], find_filter, "filter");
  const Arguments rest{{arguments.positional.begin() + 1, arguments.positional.end()}, arguments.keywords};
  for (const Value& item : iterate(call.self)) results.push_back(apply(call.interpreter, filter, item, rest));
  return Value::generator(std::move(results));
}

Value select(BoundCall& call, bool wanted, bool by_attribute) {
  if (!is_true(call.self)) return Value::generator({});
  const std::vector<Value>& given = call.arguments.positional;
  const std::size_t offset = by_attribute ? 1 : 0;
  if (given.size() < offset) fail("missing parameter for attribute name");
  const Builtin* test = given.size() > offset ? &named_builtin(given[offset], find_test, "test") : nullptr;
  Arguments rest{{}, call.arguments.keywords};
  if (test) rest.positional.assign(given.begin() + static_cast<std::ptrdiff_t>(offset) + 1, given.end());
  std::vector<Value> items;
  for (Value& item : iterate(call.self)) {
    const Value subject = by_attribute ? follow_path(item, given[0]) : item;
    if (is_true(test ? apply(call.interpreter, *test, subject, rest) : subject) == wanted)
      items.push_back(std::move(item));
  }
  return Value::generator(std::move(items));
}

Value format(BoundCall& call) {
  const Arguments& arguments = call.arguments;
  if (!arguments.positional.empty() && !arguments.keywords.empty())
    fail("format: can't handle positional and keyword arguments at the same time");
  const auto format = [&](const Value& given) {
    return modulo(call.self.is_string() ? call.self : Value(self_text(call)), given);
  };
  if (arguments.keywords.empty()) return format(Value::tuple(arguments.positional));
  auto dict = std::make_shared<DictObject>();
  for (const auto& [name, value] : arguments.keywords) dict->set(name, value);
  return format(std::shared_ptr<const DictObject>(std::move(dict)));
}

Value attribute(BoundCall& call) {
  const auto found = python_attribute(call.self, call.text(0));
  return found ? *found
               : Value::undefined(fmt::format("'{} object' has no attribute '{}'", type_name(call.self), call.text(0)));
}

constexpr Builtin filters[] = {
    {"abs", "", absolute},
    {"attr", "name", attribute},
    {"batch", "linecount fill_with?", batch},
    {"capitalize", "", [](BoundCall& c) { return call_method(c, "capitalize"); }},
    {"center", "width?", [](BoundCall& c) { return call_method(c, "center", {c.value_or(0, 80)}); }},
    {"count", "", length},
    {"d", "default_value? boolean?", default_value},
    {"default", "default_value? boolean?", default_value},
    {"dictsort", "case_sensitive? by? reverse?", dict_sort},
    {"e", "", [](BoundCall& c) { return escaped(c.self); }},
    {"escape", "", [](BoundCall& c) { return escaped(c.self); }},
    {"first", "", first},
    {"float", "default?", to_real},
    {"forceescape", "", [](BoundCall& c) { return escaped(self_text(c)); }},
    {"format", "*", format},
    {"groupby", "attribute default? case_sensitive?", group_by},
    {"indent", "width? first? blank?", indent},
    {"int", "default? base?", to_integer},
    {"items", "", items},
    {"join", "d? attribute?", join},
    {"last", "", last},
    {"length", "", length},
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
    {"safe", "", [](BoundCall& c) { return Value::markup(self_text(c)); }},
    {"select", "*", [](BoundCall& c) { return select(c, true, false); }},
    {"selectattr", "*", [](BoundCall& c) { return select(c, true, true); }},
    {"slice", "slices fill_with?", slice},
    {"sort", "reverse? case_sensitive? attribute?", sort},
    {"string", "", [](BoundCall& c) { return c.self.is_string() ? c.self : Value(self_text(c)); }},
    {"sum", "attribute? start?", sum},
    {"title", "", title_words},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", json},
    {"trim", "chars?", [](BoundCall& c) { return call_method(c, "strip", {c.value_or(0, Value())}); }},
    {"truncate", "length? killwords? end? leeway?", truncate},
    {"unique", "case_sensitive? attribute?", unique},
    {"upper", "", [](BoundCall& c) { return call_method(c, "upper"); }},
    {"wordcount", "", word_count},
};

}  // namespace

const Builtin* find_filter(std::string_view name) {
  const Builtin* found =
      std::find_if(std::begin(filters), std::end(filters), [&](const Builtin& row) { return row.name == name; });
  return found == std::end(filters) ? find_text_filter(name) : found;
}

}  // namespace lathe::jinja
