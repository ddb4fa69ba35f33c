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
#include "text/unicode/utf8.h"

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
  explicit StringObject(std::string value, bool is_safe = false);
  const std::string text;    // valid UTF-8
  const std::size_t length;  // in characters
  const bool is_safe;        // the filter `safe` gave it: the reference writes as HTML what is added to it
  bool is_ascii() const { return length == text.size(); }
  std::size_t offset(std::size_t character) const { return is_ascii() ? character : character_offset(text, character); }
};

struct SequenceObject;
class DictObject;

enum class Kind { none, undefined, boolean, integer, real, string, sequence, dict, object };

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
  Value(std::shared_ptr<SequenceObject> sequence) : data_(std::move(sequence)) {}
  Value(std::shared_ptr<DictObject> dict) : data_(std::move(dict)) {}
  template <std::derived_from<Object> T>
  Value(std::shared_ptr<T> object) : data_(std::shared_ptr<Object>(std::move(object))) {}
  static Value safe_text(std::string text);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value generator(std::vector<Value> items);
  static Value undefined(std::string problem);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is_none() const { return kind() == Kind::none; }
  bool is_undefined() const { return kind() == Kind::undefined; }
  bool is_string() const { return kind() == Kind::string; }
  bool is_dict() const { return kind() == Kind::dict; }
  bool is_list() const;  // or a tuple
  bool is_tuple() const;
  bool is_range() const;
  bool is_generator() const;

  // Each of these demands that kind.
  bool boolean() const { return std::get<bool>(data_); }
  std::int64_t integer() const { return std::get<std::int64_t>(data_); }
  double real() const { return std::get<double>(data_); }
  const StringObject& string() const { return *std::get<std::shared_ptr<const StringObject>>(data_); }
  const std::string& text() const { return string().text; }
  bool is_safe() const { return is_string() && string().is_safe; }
  SequenceObject& sequence() const { return *std::get<std::shared_ptr<SequenceObject>>(data_); }
  const std::vector<Value>& items() const;  // of a sequence
  const DictObject& dict() const { return *std::get<std::shared_ptr<const DictObject>>(data_); }
  const std::shared_ptr<Object>& object() const { return std::get<std::shared_ptr<Object>>(data_); }
  const std::string& problem() const { return *std::get<Undefined>(data_).problem; }

 private:
  explicit Value(Undefined undefined) : data_(std::move(undefined)) {}

  // The alternatives are in the order of Kind.
  std::variant<None, Undefined, bool, std::int64_t, double, std::shared_ptr<const StringObject>,
               std::shared_ptr<SequenceObject>, std::shared_ptr<const DictObject>, std::shared_ptr<Object>>
      data_;
};

// Lists and tuples, and what can be iterated over but is neither: dict.items(), range(3), messages | map(...).
struct SequenceObject : Tracked {
  enum class Type { list, tuple, keys, values, items, range, generator };
  SequenceObject(Type type, std::vector<Value> values);
  const Type type;
  std::vector<Value> items;                    // final, but that iterating takes those of a generator
  std::int64_t start = 0, step = 1, stop = 0;  // of a range
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
  std::vector<Value> pairs() const;  // the entries as tuples
  int depth() const { return depth_; }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string_view, std::size_t> strings_;  // the keys that are strings
  int depth_ = 1;
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

// int(text, base) and float(text); nothing where the text is no number. Digits are ASCII.
std::optional<std::int64_t> parse_integer(std::string_view text, int base);
std::optional<double> parse_real(std::string_view text);
int digit_value(char digit);  // of 0-9, a-z and A-Z; 36 of anything else

// The constants of JSON; an integer beyond 64 bits signed and a text that is not UTF-8 are Errors.
Value from_json(const nlohmann::ordered_json& json);

// Levels of lists, dicts and objects in a value; `checked_depth` is an Error beyond maximum_value_depth.
int depth_of(const Value& value);
int checked_depth(int depth);

void require_defined(const Value& value);  // fails with the problem of an undefined one
bool is_true(const Value& value);
std::string_view type_name(const Value& value);  // Python's: "str", "NoneType"
bool is_hashable(const Value& value);            // can be a dict's key: no list, no dict, nor a tuple with one in it
bool is_number(const Value& value);              // bool counts
std::optional<std::int64_t> as_integer(const Value& value);  // of a bool or an int
double as_real(const Value& value);                          // of a number

// str(value) and repr(value).
std::string to_text(const Value& value);
void append_text(TextBuilder& output, const Value& value);
std::string joined(std::string_view separator, const std::vector<Value>& values);  // str() of each
std::string representation(const Value& value);
std::string python_quote(std::string_view text);  // repr of a string
std::string ascii_escape(char32_t character);     // as Python writes it: \\x7f, \\u2028, \\U0001f600
std::string real_text(double value);              // repr of a float

bool equal(const Value& a, const Value& b);
// -1, 0, 1, or 2 where a NaN makes everything false; `operation` (such as "<") is for the error on unordered types.
int compare(const Value& a, const Value& b, std::string_view operation);

// list(value): fails where it cannot be iterated over. A generator is used up.
std::vector<Value> iterate(const Value& value);
bool is_iterable(const Value& value);
std::optional<std::size_t> length_of(const Value& value);  // nothing where it has none

}  // namespace lathe::jinja
