// The values of a template: Python's, as far as templates see them.
//
// None, bool, int (64 bits: an overflow is an Error, Python would grow), float, str, list, tuple, dict (in the order of
// insertion), iterables that are not lists (dict views, range, what `map` or `select` yield), objects with behaviour
// (namespace, loop, macro, method, function), and undefined. The surprising decision: everything but an object is
// immutable once made, because the sandbox that the reference renders in forbids changing lists and dicts; so values
// share their parts freely, cycles cannot arise, and `maximum_value_depth` bounds every recursion over them.
#pragma once
#include <concepts>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "tensor/errors.h"
#include "text/chat_template/budget.h"

namespace lathe::jinja {

class Value;
class Object;
class Interpreter;
struct Arguments;

// A failure of the running template; the interpreter adds the line.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// Prints as nothing, is false, iterates over nothing; any other use fails with `problem`.
struct Undefined {
  std::shared_ptr<const std::string> problem;
};

struct None {};

struct StringObject : Tracked {
  explicit StringObject(std::string value, bool markup = false);
  const std::string text;    // valid UTF-8
  const std::size_t length;  // code points
  const bool is_markup;      // markupsafe's Markup: escaped HTML, which escapes what is joined to it
  bool is_ascii() const { return length == text.size(); }
};

struct ListObject;
class DictObject;
struct IterableObject;

enum class Kind { none, undefined, boolean, integer, real, string, list, dict, iterable, object };

class Value {
 public:
  Value() : data_(None{}) {}
  Value(bool value) : data_(value) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Value(T value) : data_(static_cast<std::int64_t>(value)) {}
  Value(double value) : data_(value) {}
  Value(std::string text) : data_(std::make_shared<const StringObject>(std::move(text))) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(std::shared_ptr<const DictObject> dict) : data_(std::move(dict)) {}
  Value(std::shared_ptr<IterableObject> iterable) : data_(std::move(iterable)) {}
  Value(std::shared_ptr<Object> object) : data_(std::move(object)) {}
  static Value markup(std::string text);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value named_tuple(std::vector<Value> items, std::string_view names);  // names must outlive it
  static Value generator(std::vector<Value> items);
  static Value undefined(std::string problem);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is_none() const { return kind() == Kind::none; }
  bool is_undefined() const { return kind() == Kind::undefined; }
  bool is_string() const { return kind() == Kind::string; }
  bool is_dict() const { return kind() == Kind::dict; }

  // Each of these demands that kind.
  bool boolean() const { return std::get<bool>(data_); }
  std::int64_t integer() const { return std::get<std::int64_t>(data_); }
  double real() const { return std::get<double>(data_); }
  const StringObject& string() const { return *std::get<std::shared_ptr<const StringObject>>(data_); }
  const std::string& text() const { return string().text; }
  bool is_markup() const { return is_string() && string().is_markup; }
  const ListObject& list() const { return *std::get<std::shared_ptr<const ListObject>>(data_); }
  const DictObject& dict() const { return *std::get<std::shared_ptr<const DictObject>>(data_); }
  IterableObject& iterable() const { return *std::get<std::shared_ptr<IterableObject>>(data_); }
  const std::shared_ptr<Object>& object() const { return std::get<std::shared_ptr<Object>>(data_); }
  const std::string& problem() const { return *std::get<Undefined>(data_).problem; }

 private:
  explicit Value(std::shared_ptr<const ListObject> list) : data_(std::move(list)) {}
  explicit Value(Undefined undefined) : data_(std::move(undefined)) {}

  // The alternatives are in the order of Kind.
  std::variant<None, Undefined, bool, std::int64_t, double, std::shared_ptr<const StringObject>,
               std::shared_ptr<const ListObject>, std::shared_ptr<const DictObject>, std::shared_ptr<IterableObject>,
               std::shared_ptr<Object>>
      data_;
};

struct ListObject : Tracked {  // a list or a tuple
  ListObject(std::vector<Value> values, bool tuple, std::string_view field_names = {});
  const std::vector<Value> items;
  const bool is_tuple;
  const std::string_view names;  // of a named tuple's items, separated by spaces
  const int depth;
};

// Built with `set`, then shared as const. Keys compare as in Python (1, 1.0 and True are one key).
class DictObject : public Tracked {
 public:
  DictObject() : Tracked(sizeof(DictObject)) {}
  void set(Value key, Value value);
  const Value* find(const Value& key) const;  // null where there is none
  const Value* find_text(std::string_view key) const;
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  int depth() const { return depth_; }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string_view, std::size_t> strings_;  // the keys that are strings
  int depth_ = 1;
};

// What can be iterated over but is no list: dict.items(), range(3), messages | map(...).
struct IterableObject : Tracked {
  enum class Type { keys, values, items, range, generator };
  IterableObject(Type type, std::vector<Value> values);
  bool is_generator() const { return type == Type::generator; }
  const Type type;
  std::vector<Value> items;  // of a generator, what has not been taken yet
  std::int64_t range_start = 0, range_stop = 0, range_step = 1;
  const int depth;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

// A value with behaviour.
class Object : public Tracked, public std::enable_shared_from_this<Object> {
 public:
  Object() : Tracked(64) {}
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  virtual std::string representation() const = 0;
  virtual std::optional<Value> attribute(std::string_view) { return std::nullopt; }
  virtual bool is_callable() const { return false; }
  virtual Value call(Interpreter&, Arguments&) { fail("'{}' object is not callable", type_name()); }
  virtual int depth() const { return 1; }  // of the values that destroying it would destroy
};

// The constants of JSON; an integer beyond 64 bits signed and a text that is not UTF-8 are Errors.
Value from_json(const nlohmann::ordered_json& json);

// Levels of lists, dicts and objects in a value; `checked_depth` is an Error beyond maximum_value_depth.
int depth_of(const Value& value);
int checked_depth(int depth);

bool is_true(const Value& value);
std::string_view type_name(const Value& value);  // Python's: "str", "NoneType"
bool is_hashable(const Value& value);            // can be a dict's key: no list, no dict, nor a tuple with one in it
bool is_number(const Value& value);              // bool counts
std::optional<std::int64_t> as_integer(const Value& value);  // of a bool or an int
double as_real(const Value& value);                          // of a number

// str(value) and repr(value).
std::string to_text(const Value& value);
void append_text(TextBuilder& output, const Value& value);
std::string representation(const Value& value);
std::string python_quote(std::string_view text);  // repr of a string
std::string real_text(double value);              // repr of a float
// str(value) with & < > " ' as HTML writes them, as Markup; Markup is left as it is.
Value escaped(const Value& value);

bool equal(const Value& a, const Value& b);
// -1, 0, 1, or 2 where a NaN makes everything false; `operation` (such as "<") is for the error on unordered types.
int compare(const Value& a, const Value& b, std::string_view operation);

// list(value): fails where it cannot be iterated over. A generator is used up.
std::vector<Value> iterate(const Value& value);
bool is_iterable(const Value& value);
std::optional<std::size_t> length_of(const Value& value);  // nothing where it has none

}  // namespace lathe::jinja
