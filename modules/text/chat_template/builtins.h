// The filters, tests, methods and global functions that templates can call.
//
// Each is a row of a table: name, parameters, function. Semantics are those of Jinja2 3.1 (jinja2/filters.py, tests.py)
// and of Python's methods. Not there: the filter `random` and the function `lipsum`, because a prompt is a function of
// its inputs; and what lays out pages (`urlize`, `wordwrap`, str.center ...), which no published template uses: these
// are known by name, and calling one is an Error. `tojson` is transformers' (no HTML escapes, non-ASCII text as it is).
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template/value.h"

namespace lathe::jinja {

class BoundCall;

struct Builtin {
  std::string_view names;  // several, separated by spaces, where it has other names
  // Names in order, separated by spaces; "name?" may be left out. "*" alone takes any arguments, unbound; "/" in front
  // of them all takes no keywords, as most of Python's methods.
  std::string_view parameters;
  Value (*function)(BoundCall& call);
};

// A call of a built-in whose arguments are bound to its parameters; fails as Python does where they do not fit.
class BoundCall {
 public:
  BoundCall(Interpreter& interpreter, const Builtin& builtin, std::string_view name, const Value& self,
            Arguments& arguments);

  const std::string_view name;  // it is called by
  Interpreter& interpreter;
  const Value& self;     // the filtered or tested value, or the method's object
  Arguments& arguments;  // as given

  bool has(std::size_t parameter) const { return values_[parameter] && !values_[parameter]->is_none(); }
  const Value& operator[](std::size_t parameter) const { return *values_[parameter]; }  // given or required
  Value value_or(std::size_t parameter, Value otherwise) const;
  std::int64_t integer(std::size_t parameter) const;  // fails unless it is an int
  std::int64_t integer_or(std::size_t parameter, std::int64_t otherwise) const;
  bool flag(std::size_t parameter, bool otherwise = false) const;
  const std::string& text(std::size_t parameter) const;  // fails unless it is a str

 private:
  std::vector<const Value*> values_;
};

// The row of a table that has a name, or null.
const Builtin* find_builtin(std::span<const Builtin> table, std::string_view name);
Value call_builtin(Interpreter& interpreter, const Builtin& builtin, std::string_view name, const Value& self,
                   Arguments& arguments);
// What is known by name alone.
[[noreturn]] void refuse(std::string_view name);
inline Value refused(BoundCall& call) { refuse(call.name); }

// Null where there is none of that name.
const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);  // its function returns a bool
const Builtin* find_method(const Value& object, std::string_view name);

// What one of the former two finds; fails where there is none. `what` is "filter" or "test".
const Builtin& require_builtin(const Builtin* (*find)(std::string_view), const char* what, std::string_view name);

// object.name(arguments).
Value call_method(Interpreter& interpreter, std::string_view name, const Value& object, Arguments& arguments);

// range, dict, namespace, joiner, raise_exception, strftime_now.
Value make_global(std::string_view name);
std::vector<std::string_view> global_names();

// Words that are separated by single spaces.
std::vector<std::string_view> words(std::string_view text);

// What stands for a key in a path or a format: digits for a position, all else for a name.
Value key_of(std::string_view text);
// The attribute that a path such as "function.name" or 0 leads to from an item; `otherwise`, unless it is None, takes
// the place of what is undefined on the way.
Value follow_path(const Value& item, const Value& path, const Value& otherwise = {});

// A function made on the spot, such as a method bound to its object. `depth` is that of what it holds.
Value make_function(std::string name, int depth, std::function<Value(Interpreter&, Arguments&)> function);

// What {% set x.y = ... %} assigns to.
class Namespace : public Object {
 public:
  std::string_view type_name() const override { return "Namespace"; }
  std::string representation() const override;
  std::optional<Value> attribute(std::string_view name) override;
  void set(const std::string& name, Value value);
  void clear() { attributes_ = std::make_shared<DictObject>(); }

 private:
  std::shared_ptr<DictObject> attributes_ = std::make_shared<DictObject>();
};

}  // namespace lathe::jinja
