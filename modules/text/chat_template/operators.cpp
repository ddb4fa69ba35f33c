// Operators of the template language; see the header.
#include "text/chat_template/operators.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "text/chat_template/builtins.h"
#include "text/chat_template/format.h"

namespace lathe::jinja {
namespace {

[[noreturn]] void fail_operands(std::string_view operation, const Value& a, const Value& b) {
  require_defined(a), require_defined(b);
  fail("unsupported operand types for {}: '{}' and '{}'", operation, type_name(a), type_name(b));
}

[[noreturn]] void fail_overflow(std::string_view operation, std::int64_t a, std::int64_t b) {
  fail("{} {} {} has more than 64 bits", a, operation, b);
}

Value same_kind(const Value& list, std::vector<Value> items) {
  return list.is_tuple() ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

// `count` copies of a string or list; none where it is negative.
Value repeat(const Value& sequence, std::int64_t count) {
  const std::size_t size = sequence.is_string() ? sequence.text().size() : sequence.items().size() * sizeof(Value);
  const std::size_t times = size ? static_cast<std::size_t>(std::max<std::int64_t>(count, 0)) : 0;
  if (size > 0) check_room(times > SIZE_MAX / size ? SIZE_MAX : times * size);
  std::string text;
  std::vector<Value> items;
  for (std::size_t i = 0; i < times; ++i)
    if (sequence.is_string())
      text += sequence.text();
    else
      items.insert(items.end(), sequence.items().begin(), sequence.items().end());
  return sequence.is_string() ? Value(std::move(text)) : same_kind(sequence, std::move(items));
}

// Of two numbers: whole unless one is a float.
template <class Real, class WholeOverflows>
Value arithmetic(std::string_view symbol, const Value& a, const Value& b, Real real, WholeOverflows overflows) {
  const auto x = as_integer(a), y = as_integer(b);
  if (!x || !y) return real(as_real(a), as_real(b));
  std::int64_t result;
  if (overflows(*x, *y, &result)) fail_overflow(symbol, *x, *y);
  return result;
}

std::int64_t floored_quotient(std::int64_t a, std::int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

double floored_remainder(double a, double b) {
  const double remainder = std::fmod(a, b);
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

// How Python names a value in "... has no attribute ...".
std::string description(const Value& value) {
  return value.is_none() ? "None" : fmt::format("'{} object'", type_name(value));
}

// What the sandbox of the reference refuses.
bool is_unsafe(const Value& object, std::string_view name) {
  constexpr std::string_view of_lists[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
  constexpr std::string_view of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update"};
  if (object.is_list() && !object.is_tuple()) return std::count(std::begin(of_lists), std::end(of_lists), name) > 0;
  if (object.is_dict()) return std::count(std::begin(of_dicts), std::end(of_dicts), name) > 0;
  return false;
}

// The position that a Python index means in a sequence, or nothing where it is outside.
std::optional<std::size_t> position_of(std::int64_t index, std::size_t length) {
  if (index < 0) index += static_cast<std::int64_t>(length);
  if (index < 0 || index >= static_cast<std::int64_t>(length)) return std::nullopt;
  return static_cast<std::size_t>(index);
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
    const StringObject& string = object.string();
    const auto position = position_of(*integer, string.length);
    if (!position) return std::nullopt;
    if (!string.is_ascii()) charge(static_cast<std::int64_t>(*position / 16));  // UTF-8 is walked from its beginning
    const std::size_t begin = string.offset(*position);
    return Value(string.text.substr(begin, character_length(string.text[begin])));
  }
  if (!object.is_list() && !object.is_range()) return std::nullopt;
  const auto position = position_of(*integer, object.items().size());
  return position ? std::optional(object.items()[*position]) : std::nullopt;
}

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
  if (range.stride == 1) {
    if (range.first >= range.last) return {};
    const std::size_t begin = string.offset(static_cast<std::size_t>(range.first));
    return string.text.substr(begin, string.offset(static_cast<std::size_t>(range.last)) - begin);
  }
  check_room(16 * string.length);
  std::vector<std::string_view> all;
  for (const auto [c, bytes] : characters(string.text)) all.push_back(bytes);
  std::string result;
  for (const std::size_t i : range.positions()) result.append(all[i]);
  return result;
}

}  // namespace

Value add(const Value& a, const Value& b) {
  require_defined(a), require_defined(b);
  if (is_number(a) && is_number(b))
    return arithmetic("+", a, b, std::plus(), [](auto... x) { return __builtin_add_overflow(x...); });
  if (a.is_string() && b.is_string()) {
    check_room(a.text().size() + b.text().size());
    if (!a.is_safe() && !b.is_safe()) return a.text() + b.text();
    for (const Value& part : {a, b})
      if (!part.is_safe() && part.text().find_first_of("&<>\"'") != std::string::npos)
        fail("{} is added to a text marked 'safe', which would write it as HTML", representation(part));
    return Value::safe_text(a.text() + b.text());
  }
  if (a.is_string()) fail("can only concatenate str (not \"{}\") to str", type_name(b));
  if (!a.is_list() || !b.is_list() || a.is_tuple() != b.is_tuple()) fail_operands("+", a, b);
  check_room((a.items().size() + b.items().size()) * sizeof(Value));
  std::vector<Value> items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return same_kind(a, std::move(items));
}

Value subtract(const Value& a, const Value& b) {
  if (!is_number(a) || !is_number(b)) fail_operands("-", a, b);
  return arithmetic("-", a, b, std::minus(), [](auto... x) { return __builtin_sub_overflow(x...); });
}

Value multiply(const Value& a, const Value& b) {
  if (is_number(a) && is_number(b))
    return arithmetic("*", a, b, std::multiplies(), [](auto... x) { return __builtin_mul_overflow(x...); });
  if ((a.is_string() || a.is_list()) && as_integer(b)) return repeat(a, *as_integer(b));
  if ((b.is_string() || b.is_list()) && as_integer(a)) return repeat(b, *as_integer(a));
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

Value modulo(const Value& a, const Value& b) {
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
  require_defined(a);
  if (!is_number(a)) fail("bad operand type for unary -: '{}'", type_name(a));
  if (a.kind() == Kind::real) return -a.real();
  return subtract(Value(0), a);
}

Value positive(const Value& a) {
  require_defined(a);
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
  const bool has_keys = container.kind() == Kind::sequence && container.sequence().type == SequenceObject::Type::keys;
  if (has_keys && !is_hashable(item)) fail("unhashable type: '{}'", type_name(item));
  std::vector<Value> taken;
  if (!container.is_list()) taken = iterate(container);
  const std::vector<Value>& items = container.is_list() ? container.items() : taken;
  return std::any_of(items.begin(), items.end(), [&](const Value& value) { return equal(value, item); });
}

bool not_equal(const Value& a, const Value& b) { return !equal(a, b); }
bool less(const Value& a, const Value& b) { return compare(a, b, "<") == -1; }
bool less_equal(const Value& a, const Value& b) { return compare(a, b, "<=") <= 0; }
bool greater(const Value& a, const Value& b) { return compare(a, b, ">") == 1; }

bool greater_equal(const Value& a, const Value& b) {
  const int order = compare(a, b, ">=");
  return order == 0 || order == 1;
}

std::size_t find_text(std::string_view text, std::string_view part, std::size_t from) {
  if (from > text.size()) return text.npos;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());  // two-way in glibc
  return found ? static_cast<std::size_t>(static_cast<const char*>(found) - text.data()) : text.npos;
}

std::size_t find_last_text(std::string_view text, std::string_view part) {
  if (part.size() > text.size()) return text.npos;
  for (std::size_t at = text.size() - part.size() + 1; at-- > 0;) {
    const auto differs = std::mismatch(part.begin(), part.end(), text.begin() + static_cast<std::ptrdiff_t>(at)).first;
    if (differs == part.end()) return at;
    if (differs - part.begin() >= 64) charge_text(static_cast<std::size_t>(differs - part.begin()));
  }
  return text.npos;
}

std::optional<Value> python_attribute(const Value& object, std::string_view name) {
  const bool is_dunder = name.size() > 4 && name.substr(0, 2) == "__" && name.substr(name.size() - 2) == "__";
  if (is_dunder || is_unsafe(object, name))
    return Value::undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(object)));
  if (object.kind() == Kind::object) return object.object()->attribute(name);
  const Builtin* method = find_method(object, name);
  if (!method) return std::nullopt;
  return make_function(std::string(name), depth_of(object),
                       [object, method, name = std::string(name)](Interpreter& interpreter, Arguments& arguments) {
                         return call_builtin(interpreter, *method, name, object, arguments);
                       });
}

Value get_attribute(const Value& object, std::string_view name) {
  require_defined(object);
  if (auto value = python_attribute(object, name)) return *value;
  if (object.is_dict())
    if (const Value* value = object.dict().find_text(name)) return *value;
  return Value::undefined(fmt::format("{} has no attribute '{}'", description(object), name));
}

Value get_item(const Value& object, const Value& index) {
  require_defined(object);
  if (auto value = python_element(object, index)) return *value;
  if (index.is_string()) return get_attribute(object, index.text());
  return Value::undefined(fmt::format("{} has no element {}", description(object), representation(index)));
}

Value get_slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  require_defined(object);
  if (object.is_string())
    return Value(slice_text(object.string(), slice_range(object.string().length, start, stop, step)));
  if (!object.is_list() && !object.is_range()) fail("{} cannot be sliced", description(object));
  const SliceRange range = slice_range(object.items().size(), start, stop, step);
  std::vector<Value> items;
  for (const std::size_t i : range.positions()) items.push_back(object.items()[i]);
  if (object.is_list()) return same_kind(object, std::move(items));
  const SequenceObject& whole = object.sequence();  // a slice of a range is a range
  auto part = std::make_shared<SequenceObject>(SequenceObject::Type::range, std::move(items));
  part->start = whole.start + range.first * whole.step;
  part->stop = whole.start + range.last * whole.step;
  part->step = whole.step * range.stride;
  return part;
}

}  // namespace lathe::jinja
