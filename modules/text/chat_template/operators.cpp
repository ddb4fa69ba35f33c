// Operators of the template language; see the header.
#include "text/chat_template/operators.h"

#include <algorithm>
#include <cmath>

#include "text/chat_template/builtins.h"
#include "text/chat_template/format.h"
#include "text/chat_template/unicode.h"

namespace lathe::jinja {
namespace {

void require_defined(const Value& a, const Value& b) {
  if (a.is_undefined()) fail("{}", a.problem());
  if (b.is_undefined()) fail("{}", b.problem());
}

[[noreturn]] void fail_operands(std::string_view operation, const Value& a, const Value& b) {
  require_defined(a, b);
  fail("unsupported operand types for {}: '{}' and '{}'", operation, type_name(a), type_name(b));
}

[[noreturn]] void fail_overflow(std::string_view operation, std::int64_t a, std::int64_t b) {
  fail("{} {} {} has more than 64 bits", a, operation, b);
}

bool is_list(const Value& value) { return value.kind() == Kind::list; }

Value same_kind(const Value& list, std::vector<Value> items) {
  return list.list().is_tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

// `count` copies of a string or list; none where it is negative.
Value repeat(const Value& sequence, std::int64_t count) {
  const std::size_t times = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
  const std::size_t size = sequence.is_string() ? sequence.text().size() : sequence.list().items.size() * sizeof(Value);
  if (size > 0) check_room(times > SIZE_MAX / size ? SIZE_MAX : times * size);
  if (sequence.is_string()) {
    std::string text;
    text.reserve(size * times);
    for (std::size_t i = 0; i < (size ? times : 0); ++i) text += sequence.text();
    return sequence.is_markup() ? Value::markup(std::move(text)) : Value(std::move(text));
  }
  std::vector<Value> items;
  for (std::size_t i = 0; i < (size ? times : 0); ++i)
    items.insert(items.end(), sequence.list().items.begin(), sequence.list().items.end());
  return same_kind(sequence, std::move(items));
}

std::int64_t floored_quotient(std::int64_t a, std::int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

double floored_remainder(double a, double b) {
  const double remainder = std::fmod(a, b);
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

}  // namespace

Value add(const Value& a, const Value& b) {
  require_defined(a, b);
  if (is_number(a) && is_number(b)) {
    const auto x = as_integer(a), y = as_integer(b);
    if (!x || !y) return as_real(a) + as_real(b);
    std::int64_t sum;
    if (__builtin_add_overflow(*x, *y, &sum)) fail_overflow("+", *x, *y);
    return sum;
  }
  if (a.is_string() && b.is_string()) {
    check_room(a.text().size() + b.text().size());
    if (a.is_markup() || b.is_markup()) return Value::markup(escaped(a).text() + escaped(b).text());
    return a.text() + b.text();
  }
  if (a.is_string()) fail("can only concatenate str (not \"{}\") to str", type_name(b));
  if (is_list(a) && is_list(b) && a.list().is_tuple == b.list().is_tuple) {
    check_room((a.list().items.size() + b.list().items.size()) * sizeof(Value));
    std::vector<Value> items = a.list().items;
    items.insert(items.end(), b.list().items.begin(), b.list().items.end());
    return same_kind(a, std::move(items));
  }
  fail_operands("+", a, b);
}

Value subtract(const Value& a, const Value& b) {
  if (!is_number(a) || !is_number(b)) fail_operands("-", a, b);
  const auto x = as_integer(a), y = as_integer(b);
  if (!x || !y) return as_real(a) - as_real(b);
  std::int64_t difference;
  if (__builtin_sub_overflow(*x, *y, &difference)) fail_overflow("-", *x, *y);
  return difference;
}

Value multiply(const Value& a, const Value& b) {
  require_defined(a, b);
  if (is_number(a) && is_number(b)) {
    const auto x = as_integer(a), y = as_integer(b);
    if (!x || !y) return as_real(a) * as_real(b);
    std::int64_t product;
    if (__builtin_mul_overflow(*x, *y, &product)) fail_overflow("*", *x, *y);
    return product;
  }
  if ((a.is_string() || is_list(a)) && as_integer(b)) return repeat(a, *as_integer(b));
  if ((b.is_string() || is_list(b)) && as_integer(a)) return repeat(b, *as_integer(a));
  fail_operands("*", a, b);
}

Value divide(const Value& a, const Value& b) {
  if (!is_number(a) || !is_number(b)) fail_operands("/", a, b);
  if (as_real(b) == 0) fail("division by zero");
  return as_real(a) / as_real(b);
}

Value floor_divide(const Value& a, const Value& b) {
  if (!is_number(a) || !is_number(b)) fail_operands("//", a, b);
  if (as_real(b) == 0) fail("integer division or modulo by zero");
  const auto x = as_integer(a), y = as_integer(b);
  if (!x || !y) return std::floor((as_real(a) - floored_remainder(as_real(a), as_real(b))) / as_real(b) + 0.5);
  if (*x == INT64_MIN && *y == -1) fail_overflow("//", *x, *y);
  return floored_quotient(*x, *y);
}

namespace {

// What is formatted into Markup.
Value escaped_strings(const Value& value) {
  if (value.is_string()) return escaped(value);
  if (value.kind() == Kind::list) {
    std::vector<Value> items;
    for (const Value& item : value.list().items) items.push_back(escaped_strings(item));
    return same_kind(value, std::move(items));
  }
  if (!value.is_dict()) return value;
  auto dict = std::make_shared<DictObject>();
  for (const auto& [key, item] : value.dict().entries()) dict->set(key, escaped_strings(item));
  return std::shared_ptr<const DictObject>(std::move(dict));
}

}  // namespace

Value modulo(const Value& a, const Value& b) {
  if (a.is_markup()) return Value::markup(format_percent(a.text(), escaped_strings(b)));
  if (a.is_string()) return format_percent(a.text(), b);
  if (!is_number(a) || !is_number(b)) fail_operands("%", a, b);
  if (as_real(b) == 0) fail("integer division or modulo by zero");
  const auto x = as_integer(a), y = as_integer(b);
  if (!x || !y) return floored_remainder(as_real(a), as_real(b));
  return *y == -1 ? 0 : *x - floored_quotient(*x, *y) * *y;
}

Value power(const Value& a, const Value& b) {
  if (!is_number(a) || !is_number(b)) fail_operands("**", a, b);
  const auto x = as_integer(a), y = as_integer(b);
  if (!x || !y || *y < 0) {
    if (as_real(a) == 0 && as_real(b) < 0) fail("0.0 cannot be raised to a negative power");
    if (as_real(a) < 0 && std::floor(as_real(b)) != as_real(b)) fail("a negative number to a broken power is complex");
    return std::pow(as_real(a), as_real(b));
  }
  std::int64_t result = 1, square = *x;
  for (std::int64_t exponent = *y; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, square, &result)) fail_overflow("**", *x, *y);
    if (exponent > 1 && __builtin_mul_overflow(square, square, &square)) fail_overflow("**", *x, *y);
  }
  return result;
}

Value negate(const Value& a) {
  if (a.is_undefined()) fail("{}", a.problem());
  if (!is_number(a)) fail("bad operand type for unary -: '{}'", type_name(a));
  if (a.kind() == Kind::real) return -a.real();
  return subtract(Value(0), a);
}

Value positive(const Value& a) {
  if (a.is_undefined()) fail("{}", a.problem());
  if (!is_number(a)) fail("bad operand type for unary +: '{}'", type_name(a));
  if (a.kind() == Kind::real) return a;
  return *as_integer(a);
}

bool contains(const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) fail("'in <string>' requires string as left operand, not {}", type_name(item));
    charge_text(container.text().size());
    return find_text(container.text(), item.text()) != std::string::npos;
  }
  if (container.is_dict()) {
    if (!is_hashable(item)) fail("unhashable type: '{}'", type_name(item));
    return container.dict().find(item) != nullptr;
  }
  if (!is_iterable(container)) fail("argument of type '{}' is not iterable", type_name(container));
  if (container.kind() == Kind::iterable && container.iterable().type == IterableObject::Type::keys &&
      !is_hashable(item))
    fail("unhashable type: '{}'", type_name(item));
  const auto is_item = [&](const Value& value) { return equal(value, item); };
  if (is_list(container)) return std::any_of(container.list().items.begin(), container.list().items.end(), is_item);
  const std::vector<Value> items = iterate(container);
  return std::any_of(items.begin(), items.end(), is_item);
}

namespace {

// How Python names a value in "... has no attribute ...".
std::string description(const Value& value) {
  return value.is_none() ? "None" : fmt::format("'{} object'", type_name(value));
}

// What the sandbox of the reference refuses.
bool is_unsafe(const Value& object, std::string_view name) {
  constexpr std::string_view of_lists[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
  constexpr std::string_view of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update"};
  if (is_list(object) && !object.list().is_tuple) return std::count(std::begin(of_lists), std::end(of_lists), name) > 0;
  if (object.is_dict()) return std::count(std::begin(of_dicts), std::end(of_dicts), name) > 0;
  return false;
}

// The position that a Python index means in a sequence, or nothing where it is outside.
std::optional<std::size_t> position_of(std::int64_t index, std::size_t length) {
  if (index < 0) index += static_cast<std::int64_t>(length);
  if (index < 0 || index >= static_cast<std::int64_t>(length)) return std::nullopt;
  return static_cast<std::size_t>(index);
}

std::string code_point_at(const StringObject& string, std::size_t index) {
  if (string.is_ascii()) return string.text.substr(index, 1);
  charge(static_cast<std::int64_t>(index / 16));  // UTF-8 is walked from its beginning
  std::size_t position = 0;
  for (std::size_t i = 0; i < index; ++i) next_code_point(string.text, position);
  const std::size_t begin = position;
  next_code_point(string.text, position);
  return string.text.substr(begin, position - begin);
}

// What Python's object[index] finds, or nothing where it raises TypeError or LookupError.
std::optional<Value> python_element(const Value& object, const Value& index) {
  if (object.is_dict()) {
    if (!is_hashable(index)) return std::nullopt;
    const Value* found = object.dict().find(index);
    return found ? std::optional<Value>(*found) : std::nullopt;
  }
  const auto integer = as_integer(index);
  if (!integer) return std::nullopt;
  if (object.is_string()) {
    const auto position = position_of(*integer, object.string().length);
    if (!position) return std::nullopt;
    std::string character = code_point_at(object.string(), *position);
    return object.is_markup() ? Value::markup(std::move(character)) : Value(std::move(character));
  }
  const bool is_range = object.kind() == Kind::iterable && object.iterable().type == IterableObject::Type::range;
  if (!is_list(object) && !is_range) return std::nullopt;
  const std::vector<Value>& items = is_range ? object.iterable().items : object.list().items;
  const auto position = position_of(*integer, items.size());
  return position ? std::optional<Value>(items[*position]) : std::nullopt;
}

}  // namespace

namespace {

std::optional<Value> named_item(const ListObject& tuple, std::string_view name) {
  std::string_view rest = tuple.names;
  for (std::size_t i = 0; !rest.empty(); ++i) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    if (rest.substr(0, end) == name) return tuple.items[i];
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return std::nullopt;
}

}  // namespace

std::optional<Value> python_attribute(const Value& object, std::string_view name) {
  const bool is_dunder = name.size() > 4 && name.substr(0, 2) == "__" && name.substr(name.size() - 2) == "__";
  if (is_dunder || is_unsafe(object, name))
    return Value::undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(object)));
  if (object.kind() == Kind::object) return object.object()->attribute(name);
  if (is_list(object))
    if (auto item = named_item(object.list(), name)) return item;
  const Builtin* method = find_method(object, name);
  if (!method) return std::nullopt;
  return make_function(std::string(name), depth_of(object),
                       [object, method](Interpreter& interpreter, Arguments& arguments) {
                         return call_method(interpreter, *method, object, arguments);
                       });
}

Value get_attribute(const Value& object, std::string_view name) {
  if (object.is_undefined()) fail("{}", object.problem());
  if (auto value = python_attribute(object, name)) return *value;
  if (object.is_dict())
    if (const Value* value = object.dict().find_text(name)) return *value;
  return Value::undefined(fmt::format("{} has no attribute '{}'", description(object), name));
}

Value get_item(const Value& object, const Value& index) {
  if (object.is_undefined()) fail("{}", object.problem());
  if (auto value = python_element(object, index)) return *value;
  if (!index.is_string()) {
    return Value::undefined(fmt::format("{} has no element {}", description(object), representation(index)));
  }
  if (auto value = python_attribute(object, index.text())) return *value;
  return Value::undefined(fmt::format("{} has no attribute '{}'", description(object), index.text()));
}

namespace {

// Python's slice.indices: the positions that a slice takes from a sequence are first, first + stride, ... before last.
struct SliceRange {
  std::int64_t first, last, stride;
  std::vector<std::size_t> positions() const {
    std::vector<std::size_t> result;
    for (std::int64_t i = first; stride > 0 ? i < last : i > last; i += stride)
      result.push_back(static_cast<std::size_t>(i));
    charge(static_cast<std::int64_t>(result.size()));
    return result;
  }
};

SliceRange slice_range(std::size_t size, const Value& start, const Value& stop, const Value& step) {
  const auto bound = [](const Value& value, std::int64_t otherwise) {
    if (value.is_none()) return otherwise;
    const auto integer = as_integer(value);
    if (!integer) fail("slice indices must be integers or None, not {}", type_name(value));
    return *integer;
  };
  const std::int64_t length = static_cast<std::int64_t>(size), stride = bound(step, 1);
  if (stride == 0) fail("slice step cannot be zero");
  const std::int64_t lowest = stride < 0 ? -1 : 0, highest = stride < 0 ? length - 1 : length;
  const auto clamped = [&](const Value& value, std::int64_t otherwise) {
    if (value.is_none()) return otherwise;
    const std::int64_t index = bound(value, 0);
    return std::clamp(index < 0 ? std::max(index, -length - 1) + length : index, lowest, highest);
  };
  const std::int64_t first = clamped(start, stride < 0 ? highest : lowest);
  const std::int64_t last = clamped(stop, stride < 0 ? lowest : highest);
  // No sequence has 2^62 elements, so a longer stride is not different and cannot overflow.
  return {first, last, std::clamp<std::int64_t>(stride, -(INT64_C(1) << 62), INT64_C(1) << 62)};
}

std::string slice_text(const StringObject& string, const SliceRange& range) {
  charge_text(string.text.size());
  if (range.stride == 1 && range.first >= range.last) return {};
  if (range.stride == 1) {
    const auto offset = [&](std::int64_t index) {
      if (string.is_ascii()) return static_cast<std::size_t>(index);
      std::size_t position = 0;
      for (std::int64_t i = 0; i < index; ++i) next_code_point(string.text, position);
      return position;
    };
    const std::size_t begin = offset(range.first);
    return string.text.substr(begin, offset(range.last) - begin);
  }
  check_room(16 * string.length);
  std::vector<std::size_t> offsets;  // of each code point, in bytes
  for (std::size_t position = 0; position < string.text.size(); next_code_point(string.text, position))
    offsets.push_back(position);
  offsets.push_back(string.text.size());
  std::string result;
  for (const std::size_t i : range.positions()) result.append(string.text, offsets[i], offsets[i + 1] - offsets[i]);
  return result;
}

}  // namespace

Value get_slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) fail("{}", object.problem());
  if (object.is_string()) {
    std::string part = slice_text(object.string(), slice_range(object.string().length, start, stop, step));
    return object.is_markup() ? Value::markup(std::move(part)) : Value(std::move(part));
  }
  const bool is_range = object.kind() == Kind::iterable && object.iterable().type == IterableObject::Type::range;
  if (!is_list(object) && !is_range) fail("{} cannot be sliced", description(object));
  const std::vector<Value>& source = is_range ? object.iterable().items : object.list().items;
  const SliceRange range = slice_range(source.size(), start, stop, step);
  std::vector<Value> items;
  for (const std::size_t i : range.positions()) items.push_back(source[i]);
  if (!is_range) return same_kind(object, std::move(items));
  const IterableObject& whole = object.iterable();  // a slice of a range is a range
  auto part = std::make_shared<IterableObject>(IterableObject::Type::range, std::move(items));
  part->range_start = whole.range_start + range.first * whole.range_step;
  part->range_stop = whole.range_start + range.last * whole.range_step;
  part->range_step = whole.range_step * range.stride;
  return part;
}

}  // namespace lathe::jinja
