// Binding of arguments, the tests, and the global functions.
#include "text/chat_template/builtins.h"

#include <algorithm>

#include "text/chat_template/interpreter.h"
#include "text/chat_template/operators.h"

namespace lathe::jinja {

// --- binding

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

const Builtin* find_builtin(std::span<const Builtin> table, std::string_view name) {
  const auto has_name = [&](const Builtin& row) {
    if (row.names.find(' ') == row.names.npos) return row.names == name;
    const std::vector<std::string_view> names = words(row.names);
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const auto found = std::find_if(table.begin(), table.end(), has_name);
  return found == table.end() ? nullptr : &*found;
}

void refuse(std::string_view name) {
  fail("'{}' is not supported: it is for pages, not for prompts, and no published template uses it", name);
}

BoundCall::BoundCall(Interpreter& interpreter, const Builtin& builtin, std::string_view name, const Value& self,
                     Arguments& arguments)
    : name(name), interpreter(interpreter), self(self), arguments(arguments) {
  if (builtin.parameters == "*") return;
  const bool takes_keywords = !builtin.parameters.starts_with('/');
  std::vector<std::string_view> names = words(builtin.parameters.substr(takes_keywords ? 0 : 1));
  std::size_t required = 0;
  for (std::string_view& parameter : names) {
    required += !parameter.ends_with('?');
    if (parameter.ends_with('?')) parameter.remove_suffix(1);
  }
  if (arguments.positional.size() > names.size())
    fail("{} takes at most {} arguments, {} given", name, names.size(), arguments.positional.size());
  if (!takes_keywords && !arguments.keywords.empty()) fail("{} takes no keyword arguments", name);
  values_.resize(names.size(), nullptr);
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [keyword, value] : arguments.keywords) {
    const auto found = std::find(names.begin(), names.end(), keyword);
    if (found == names.end()) fail("{} got an unexpected keyword argument '{}'", name, keyword);
    const Value*& slot = values_[static_cast<std::size_t>(found - names.begin())];
    if (slot) fail("{} got multiple values for argument '{}'", name, keyword);
    slot = &value;
  }
  for (std::size_t i = 0; i < required; ++i)
    if (!values_[i]) fail("{} misses its argument '{}'", name, names[i]);
}

Value call_builtin(Interpreter& interpreter, const Builtin& builtin, std::string_view name, const Value& self,
                   Arguments& arguments) {
  BoundCall call(interpreter, builtin, name, self, arguments);
  return builtin.function(call);
}

const Builtin& require_builtin(const Builtin* (*find)(std::string_view), const char* what, std::string_view name) {
  const Builtin* builtin = find(name);
  if (!builtin) fail("no {} named {}", what, python_quote(name));
  return *builtin;
}

Value BoundCall::value_or(std::size_t parameter, Value otherwise) const {
  if (values_[parameter]) return *values_[parameter];
  return otherwise;
}

std::int64_t BoundCall::integer(std::size_t parameter) const {
  const Value& value = *values_[parameter];
  require_defined(value);
  const auto integer = as_integer(value);
  if (!integer) fail("{}: '{}' object cannot be interpreted as an integer", name, type_name(value));
  return *integer;
}

std::int64_t BoundCall::integer_or(std::size_t parameter, std::int64_t otherwise) const {
  return has(parameter) ? integer(parameter) : otherwise;
}

bool BoundCall::flag(std::size_t parameter, bool otherwise) const {
  return values_[parameter] ? is_true(*values_[parameter]) : otherwise;
}

const std::string& BoundCall::text(std::size_t parameter) const {
  const Value& value = *values_[parameter];
  if (!value.is_string()) fail("{}: a str is needed, not '{}'", name, type_name(value));
  return value.text();
}

Value key_of(std::string_view text) {
  if (text.empty() || text.size() >= 10 || text.find_first_not_of("0123456789") != text.npos) return text;
  return std::stoll(std::string(text));
}

Value follow_path(const Value& item, const Value& path, const Value& otherwise) {
  if (path.is_none()) return item;
  const auto step = [&](const Value& from, const Value& part) {
    Value value = get_item(from, part);
    return value.is_undefined() && !otherwise.is_none() ? otherwise : value;
  };
  if (!path.is_string()) return step(item, path);
  Value value = item;
  for (std::string_view rest = path.text();;) {
    const std::size_t dot = std::min(rest.find('.'), rest.size());
    value = step(value, key_of(rest.substr(0, dot)));
    if (dot == rest.size()) return value;
    rest.remove_prefix(dot + 1);
  }
}

// --- objects

namespace {

class Function : public Object {
 public:
  Function(std::string name, int depth, std::function<Value(Interpreter&, Arguments&)> function)
      : name_(std::move(name)), depth_(checked_depth(depth + 1)), function_(std::move(function)) {}
  std::string_view type_name() const override { return is_dict() ? "type" : "function"; }
  std::string representation() const override {
    return is_dict() ? "<class 'dict'>" : fmt::format("<function {}>", name_);
  }
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override { return function_(interpreter, arguments); }
  int depth() const override { return depth_; }
  std::optional<Value> attribute(std::string_view name) override {
    if (!is_dict() || name != "fromkeys") return std::nullopt;
    return python_attribute(std::make_shared<DictObject>(), name);
  }

 private:
  bool is_dict() const { return name_ == "dict"; }

  std::string name_;
  int depth_;
  std::function<Value(Interpreter&, Arguments&)> function_;
};

// --- global functions

Value range(Interpreter&, Arguments& arguments) {
  constexpr std::int64_t maximum = 100000;  // the reference's sandbox
  std::vector<std::int64_t> bounds;
  for (const Value& value : arguments.positional) {
    const auto bound = as_integer(value);
    require_defined(value);
    if (!bound) fail("range: '{}' object cannot be interpreted as an integer", type_name(value));
    bounds.push_back(*bound);
  }
  if (bounds.empty() || bounds.size() > 3 || !arguments.keywords.empty()) fail("range takes 1 to 3 integers");
  if (bounds.size() == 1) bounds.insert(bounds.begin(), 0);
  if (bounds.size() == 2) bounds.push_back(1);
  const auto [start, stop, step] = std::tuple(bounds[0], bounds[1], bounds[2]);
  if (step == 0) fail("range() arg 3 must not be zero");
  std::vector<Value> items;
  std::int64_t i = start;
  while (step > 0 ? i < stop : i > stop) {
    if (static_cast<std::int64_t>(items.size()) == maximum)
      fail("Range too big. The sandbox blocks ranges larger than {}.", maximum);
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  auto result = std::make_shared<SequenceObject>(SequenceObject::Type::range, std::move(items));
  result->start = start, result->stop = stop, result->step = step;
  return result;
}

// dict(mapping or pairs, name=value...).
std::shared_ptr<DictObject> build_dict(Arguments& arguments) {
  if (arguments.positional.size() > 1) fail("dict expected at most 1 argument, got {}", arguments.positional.size());
  auto dict = std::make_shared<DictObject>();
  if (!arguments.positional.empty() && arguments.positional[0].is_dict()) {
    for (const auto& [key, value] : arguments.positional[0].dict().entries()) dict->set(key, value);
  } else if (!arguments.positional.empty()) {
    for (const Value& item : iterate(arguments.positional[0])) {
      const std::vector<Value> pair = iterate(item);
      if (pair.size() != 2) fail("dict: an element has {} parts; 2 are required", pair.size());
      dict->set(pair[0], pair[1]);
    }
  }
  for (const auto& [name, value] : arguments.keywords) dict->set(name, value);
  return dict;
}

Value make_dict(Interpreter&, Arguments& arguments) { return build_dict(arguments); }

Value make_namespace(Interpreter& interpreter, Arguments& arguments) {
  auto result = std::make_shared<Namespace>();
  interpreter.own(result);
  const auto attributes = build_dict(arguments);
  for (const auto& [key, value] : attributes->entries()) {
    if (!key.is_string()) fail("namespace: attribute names are strings, not {}", type_name(key));
    result->set(key.text(), value);
  }
  return result;
}

Value make_cycler(Interpreter&, Arguments&) { refuse("cycler"); }

Value make_joiner(Interpreter&, Arguments& arguments) {
  const std::string separator = arguments.positional.empty() ? ", " : to_text(arguments.positional[0]);
  return make_function("joiner", 0, [separator, used = false](Interpreter&, Arguments&) mutable -> Value {
    return std::exchange(used, true) ? separator : "";
  });
}

Value raise_exception(Interpreter&, Arguments& arguments) {
  if (arguments.positional.size() != 1) fail("raise_exception takes 1 argument");
  throw Error(to_text(arguments.positional[0]));
}

Value strftime_now(Interpreter& interpreter, Arguments& arguments) {
  if (arguments.positional.size() != 1 || !arguments.positional[0].is_string()) fail("strftime_now takes a format");
  return interpreter.formatted_now(arguments.positional[0].text());
}

constexpr std::pair<std::string_view, Value (*)(Interpreter&, Arguments&)> globals[] = {
    {"dict", make_dict},           {"range", range},        {"namespace", make_namespace},
    {"cycler", make_cycler},       {"joiner", make_joiner}, {"raise_exception", raise_exception},
    {"strftime_now", strftime_now}};

}  // namespace

Value make_function(std::string name, int depth, std::function<Value(Interpreter&, Arguments&)> function) {
  return std::make_shared<Function>(std::move(name), depth, std::move(function));
}

Value make_global(std::string_view name) {
  for (const auto& [global, function] : globals)
    if (global == name) return make_function(std::string(name), 0, function);
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

std::vector<std::string_view> global_names() {
  std::vector<std::string_view> names;
  for (const auto& global : globals) names.push_back(global.first);
  return names;
}

std::string Namespace::representation() const {
  thread_local int depth = 0;  // a namespace may hold itself
  const Nested level(depth, 20, [] { fail("a namespace is nested in itself"); });
  return fmt::format("<Namespace {}>", jinja::representation(attributes_));
}

std::optional<Value> Namespace::attribute(std::string_view name) {
  const Value* value = attributes_->find_text(name);
  return value ? std::optional(*value) : std::nullopt;
}

void Namespace::set(const std::string& name, Value value) {
  if (name.starts_with('_')) fail("a namespace cannot have the attribute '{}', which begins with an underscore", name);
  attributes_->set(name, std::move(value));
}

// --- tests

namespace {

Value remainder_is(BoundCall& call, std::int64_t divisor, std::int64_t wanted) {
  return equal(modulo(call.self, Value(divisor)), Value(wanted));
}

bool is_kind(BoundCall& call, Kind kind) { return call.self.kind() == kind; }

// str(value).islower() and isupper().
Value is_case(BoundCall& call, std::string_view method) {
  const Value text(to_text(call.self));
  return call_method(call.interpreter, method, text, call.arguments);
}

Value is_sequence(BoundCall& call) {
  const Value& value = call.self;
  return value.is_range() || value.is_string() || value.is_list() || value.is_dict() || value.is_undefined();
}

// `is`: None, True and False are one object each, small values are compared as values.
Value is_same(BoundCall& call) {
  const Value &a = call.self, &b = call[0];
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::sequence: return &a.sequence() == &b.sequence();
    case Kind::dict: return &a.dict() == &b.dict();
    default: return equal(a, b);
  }
}

template <bool (*holds)(const Value&, const Value&)>
Value compares(BoundCall& call) {
  return holds(call.self, call[0]);
}

constexpr Builtin tests[] = {
    {"== eq equalto", "other", compares<equal>},
    {"!= ne", "other", compares<not_equal>},
    {"< lt lessthan", "other", compares<less>},
    {"<= le", "other", compares<less_equal>},
    {"> gt greaterthan", "other", compares<greater>},
    {">= ge", "other", compares<greater_equal>},
    {"boolean", "", [](BoundCall& c) -> Value { return is_kind(c, Kind::boolean); }},
    {"callable", "",
     [](BoundCall& c) -> Value {
       return c.self.is_undefined() || (is_kind(c, Kind::object) && c.self.object()->is_callable());
     }},
    {"defined", "", [](BoundCall& c) -> Value { return !c.self.is_undefined(); }},
    {"divisibleby", "num", [](BoundCall& c) -> Value { return equal(modulo(c.self, c[0]), Value(0)); }},
    {"escaped", "", [](BoundCall& c) -> Value { return c.self.is_safe(); }},
    {"even", "", [](BoundCall& c) { return remainder_is(c, 2, 0); }},
    {"false", "", [](BoundCall& c) -> Value { return is_kind(c, Kind::boolean) && !c.self.boolean(); }},
    {"filter", "", [](BoundCall& c) -> Value { return c.self.is_string() && find_filter(c.self.text()); }},
    {"float", "", [](BoundCall& c) -> Value { return is_kind(c, Kind::real); }},
    {"in", "seq", [](BoundCall& c) -> Value { return contains(c[0], c.self); }},
    {"integer", "", [](BoundCall& c) -> Value { return is_kind(c, Kind::integer); }},
    {"iterable", "", [](BoundCall& c) -> Value { return is_iterable(c.self); }},
    {"lower", "", [](BoundCall& c) { return is_case(c, "islower"); }},
    {"mapping", "", [](BoundCall& c) -> Value { return is_kind(c, Kind::dict); }},
    {"none", "", [](BoundCall& c) -> Value { return c.self.is_none(); }},
    {"number", "", [](BoundCall& c) -> Value { return is_number(c.self); }},
    {"odd", "", [](BoundCall& c) { return remainder_is(c, 2, 1); }},
    {"sameas", "other", is_same},
    {"sequence", "", is_sequence},
    {"string", "", [](BoundCall& c) -> Value { return c.self.is_string(); }},
    {"test", "", [](BoundCall& c) -> Value { return c.self.is_string() && find_test(c.self.text()); }},
    {"true", "", [](BoundCall& c) -> Value { return is_kind(c, Kind::boolean) && c.self.boolean(); }},
    {"undefined", "", [](BoundCall& c) -> Value { return c.self.is_undefined(); }},
    {"upper", "", [](BoundCall& c) { return is_case(c, "isupper"); }},
};

}  // namespace

const Builtin* find_test(std::string_view name) { return find_builtin(tests, name); }

}  // namespace lathe::jinja
