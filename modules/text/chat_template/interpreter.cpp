// The evaluator of chat templates; see the header.
#include "text/chat_template/interpreter.h"

#include <algorithm>

#include "text/chat_template/format.h"
#include "text/chat_template/operators.h"

namespace lathe::jinja {

const Value* Scope::find(std::string_view name) const {
  charge(static_cast<std::int64_t>(names_.size() / 16));  // a search, not a table: real templates have few names
  for (const auto& [known, value] : names_)
    if (known == name) return &value;
  return nullptr;
}

void Scope::set(std::string_view name, Value value) {
  charge(static_cast<std::int64_t>(names_.size() / 16));
  for (auto& [known, present] : names_)
    if (known == name) return void(present = std::move(value));
  grow(sizeof(names_[0]));
  names_.emplace_back(name, std::move(value));
}

// One level of evaluation, for as long as it lives.
class Interpreter::Level {
 public:
  explicit Level(Interpreter& interpreter) : depth_(interpreter.depth_) {
    if (depth_ >= interpreter.maximum_depth_)
      fail("the template is nested or calls itself more than {} levels deep", interpreter.maximum_depth_);
    ++depth_;
  }
  ~Level() { --depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int& depth_;
};

// A scope within `parent`, in which the interpreter is until this ends.
class Interpreter::InnerScope {
 public:
  InnerScope(Interpreter& interpreter, Scope* parent)
      : interpreter_(interpreter), outer_(interpreter.scope_), scope_(std::make_unique<Scope>(parent)) {
    interpreter.scope_ = scope_.get();
  }
  explicit InnerScope(Interpreter& interpreter) : InnerScope(interpreter, interpreter.scope_) {}
  ~InnerScope() {
    interpreter_.scope_ = outer_;
    if (scope_->is_captured) interpreter_.captured_scopes_.push_back(std::move(scope_));
  }
  InnerScope(const InnerScope&) = delete;
  InnerScope& operator=(const InnerScope&) = delete;
  Scope* operator->() { return scope_.get(); }

 private:
  Interpreter& interpreter_;
  Scope* outer_;
  std::unique_ptr<Scope> scope_;
};

class Macro : public Object {
 public:
  Macro(std::shared_ptr<const ast::MacroDefinition> definition, Scope* scope)
      : definition_(std::move(definition)), scope_(scope) {}
  std::string_view type_name() const override { return "Macro"; }
  std::string representation() const override { return fmt::format("<Macro {}>", python_quote(definition_->name)); }
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override {
    return interpreter.call_macro(*definition_, scope_, arguments);
  }
  std::optional<Value> attribute(std::string_view name) override {
    if (name == "name") return Value(definition_->name);
    if (name == "arguments") return Value::tuple({definition_->parameters.begin(), definition_->parameters.end()});
    if (name == "caller") return Value(definition_->uses_caller);
    if (name == "catch_varargs") return Value(definition_->uses_varargs);
    if (name == "catch_kwargs") return Value(definition_->uses_kwargs);
    return std::nullopt;
  }

 private:
  std::shared_ptr<const ast::MacroDefinition> definition_;
  Scope* scope_;
};

// The variable `loop`, and the iteration itself. Items pass the loop's `if` only when they are reached (or looked at),
// as in the reference: the body may change what the condition sees.
class Loop : public Object {
 public:
  Loop(Interpreter& interpreter, const ast::For& node, std::vector<Value> items, int depth)
      : interpreter_(&interpreter),
        node_(node),
        scope_(interpreter.scope_),
        source_(Value::list(std::move(items))),
        depth0_(depth) {
    checked_depth(this->depth());
  }

  std::string_view type_name() const override { return "LoopContext"; }
  std::string representation() const override {
    return fmt::format("<LoopContext {}/{}>", index0_ + 1, const_cast<Loop*>(this)->length());  // looks ahead
  }
  bool is_callable() const override { return true; }
  int depth() const override { return depth_of(source_) + 1; }
  std::optional<Value> attribute(std::string_view name) override;
  Value call(Interpreter& interpreter, Arguments& arguments) override;

  bool advance();  // to the next item, if there is one
  const Value& current() const { return current_; }
  void finish();  // no more items, and nothing that could refer back to this object

 private:
  bool look_ahead();
  std::int64_t length();
  Value changed(const Arguments& arguments);

  Interpreter* interpreter_;  // null when the loop is over
  const ast::For& node_;
  Scope* scope_;  // that the loop stands in
  Value source_;
  std::size_t taken_ = 0;
  std::deque<Value> ahead_;
  std::int64_t index0_ = -1;
  int depth0_;
  Value previous_, current_;
  std::optional<Value> last_changed_;
};

bool Loop::look_ahead() {
  const std::vector<Value>& items = source_.list().items;
  while (interpreter_ && taken_ < items.size()) {
    const Value& item = items[taken_++];
    if (node_.condition) {
      const Interpreter::InnerScope scope(*interpreter_, scope_);
      interpreter_->assign(node_.target, item);
      if (!is_true(interpreter_->evaluate(*node_.condition))) continue;
    }
    ahead_.push_back(item);
    return true;
  }
  return false;
}

bool Loop::advance() {
  if (ahead_.empty() && !look_ahead()) return false;
  previous_ = std::exchange(current_, std::move(ahead_.front()));
  ahead_.pop_front();
  ++index0_;
  return true;
}

void Loop::finish() {
  interpreter_ = nullptr;
  last_changed_.reset();
}

std::int64_t Loop::length() {
  while (look_ahead()) {}
  return index0_ + 1 + static_cast<std::int64_t>(ahead_.size());
}

Value Loop::changed(const Arguments& arguments) {
  Value value = Value::tuple(arguments.positional);
  if (last_changed_ && equal(*last_changed_, value)) return false;
  if (interpreter_) last_changed_ = std::move(value);
  return true;
}

std::optional<Value> Loop::attribute(std::string_view name) {
  if (name == "index") return index0_ + 1;
  if (name == "index0") return index0_;
  if (name == "first") return index0_ == 0;
  if (name == "last") return ahead_.empty() && !look_ahead();
  if (name == "length") return length();
  if (name == "revindex") return length() - index0_;
  if (name == "revindex0") return length() - index0_ - 1;
  if (name == "depth") return depth0_ + 1;
  if (name == "depth0") return depth0_;
  if (name == "previtem") return index0_ > 0 ? previous_ : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return ahead_.empty() && !look_ahead() ? Value::undefined("there is no next item") : ahead_.front();
  if (name != "cycle" && name != "changed") return std::nullopt;
  return make_function(
      std::string(name), depth(),
      [self = shared_from_this(), this, cycles = name == "cycle"](Interpreter&, Arguments& arguments) -> Value {
        if (!cycles) return changed(arguments);
        if (arguments.positional.empty()) fail("no items for cycling given");
        return arguments.positional[static_cast<std::size_t>(index0_) % arguments.positional.size()];
      });
}

// loop(items) of a recursive loop renders the loop over these items.
Value Loop::call(Interpreter& interpreter, Arguments& arguments) {
  if (!node_.is_recursive) fail("the loop must have the 'recursive' marker to be called recursively");
  if (!interpreter_ || arguments.positional.size() != 1) fail("loop() takes the items of a loop that is running");
  const Interpreter::InnerScope scope(interpreter, scope_);
  return interpreter.captured([&] { interpreter.run_loop(node_, arguments.positional[0], depth0_ + 1); });
}

// --- the interpreter

Interpreter::Interpreter(const ast::Body& body, const std::tm& now, const Limits& limits)
    : budget_(limits),
      body_(body),
      now_(now),
      maximum_depth_(limits.evaluation_depth),
      root_(std::make_unique<Scope>(nullptr)),
      scope_(root_.get()) {
  for (const std::string_view name : global_names()) root_->set(name, make_global(name));
}

Interpreter::~Interpreter() {
  for (const auto& object : namespaces_) object->clear();
}

std::string Interpreter::render() {
  return captured([&] { execute(body_); });
}

template <class Function>
std::string Interpreter::captured(Function&& run) {
  TextBuilder text;
  TextBuilder* const outer = std::exchange(output_, &text);
  struct Restore {
    TextBuilder*& output;
    TextBuilder* outer;
    ~Restore() { output = outer; }
  } const restore{output_, outer};
  run();
  return text.take();
}

std::string Interpreter::formatted_now(std::string_view format) const { return format_time(now_, format); }

Value Interpreter::call(const Value& callee, Arguments& arguments) {
  if (callee.is_undefined()) fail("{}", callee.problem());
  if (callee.kind() != Kind::object) fail("'{}' object is not callable", type_name(callee));
  const std::shared_ptr<Object> object = callee.object();
  return object->call(*this, arguments);
}

// --- expressions

Value Interpreter::evaluate(const ast::Expression& expression) {
  const Level level(*this);
  charge(1);
  line_ = expression.line;
  return std::visit([this](const auto& node) { return visit(node); }, expression.node);
}

Value Interpreter::visit(const ast::Name& node) {
  Value value = value_or_undefined(node);
  if (value.is_undefined() && !unknown_names_.contains(node.name)) unknown_names_.insert(node.name);
  return value;
}

Value Interpreter::value_or_undefined(const ast::Name& node) const {
  for (const Scope* scope = scope_; scope; scope = scope->parent)
    if (const Value* value = scope->find(node.name)) return *value;
  return Value::undefined(fmt::format("'{}' is undefined", node.name));
}

Value Interpreter::evaluate_unless_unknown(const ast::Expression& expression) {
  const auto* name = std::get_if<ast::Name>(&expression.node);
  return name ? value_or_undefined(*name) : evaluate(expression);
}

Value Interpreter::visit(const ast::Attribute& node) { return get_attribute(evaluate(*node.object), node.name); }

Value Interpreter::visit(const ast::Subscript& node) {
  const Value object = evaluate(*node.object);
  return get_item(object, evaluate(*node.index));
}

Value Interpreter::visit(const ast::Slice& node) {
  const Value object = evaluate(*node.object);
  const Value start = evaluate_or_none(node.start), stop = evaluate_or_none(node.stop);
  return get_slice(object, start, stop, evaluate_or_none(node.step));
}

Arguments Interpreter::evaluate(const ast::CallArguments& given) {
  Arguments arguments;
  for (const auto& argument : given.positional) arguments.positional.push_back(evaluate(*argument));
  for (const auto& [name, value] : given.keywords) arguments.keywords.emplace_back(name, evaluate(*value));
  if (given.more_positional)
    for (Value& value : iterate(evaluate(*given.more_positional))) arguments.positional.push_back(std::move(value));
  if (given.more_keywords) {
    const Value more = evaluate(*given.more_keywords);
    if (!more.is_dict()) fail("argument after ** must be a mapping, not {}", type_name(more));
    for (const auto& [name, value] : more.dict().entries()) {
      if (!name.is_string()) fail("keywords must be strings");
      arguments.keywords.emplace_back(name.text(), value);
    }
  }
  return arguments;
}

Value Interpreter::visit(const ast::Call& node) {
  const Value callee = evaluate(*node.callee);
  Arguments arguments = evaluate(node.arguments);
  return call(callee, arguments);
}

Value Interpreter::apply_filter(const ast::Filter& node, const Value& value) {
  const Builtin* filter = find_filter(node.name);
  if (!filter) fail("no filter named '{}'", node.name);
  Arguments arguments = evaluate(node.arguments);
  BoundCall call(*this, *filter, value, arguments);
  return filter->function(call);
}

Value Interpreter::visit(const ast::Filter& node) {
  const bool is_default = node.name == "default" || node.name == "d";
  return apply_filter(node, is_default ? evaluate_unless_unknown(*node.value) : evaluate(*node.value));
}

// The filters of a block on its text: the innermost has no value of its own.
Value Interpreter::apply_filter_chain(const ast::Expression& filter, const Value& text) {
  const Level level(*this);
  const auto& node = std::get<ast::Filter>(filter.node);
  line_ = filter.line;
  return apply_filter(node, node.value ? apply_filter_chain(*node.value, text) : text);
}

Value Interpreter::visit(const ast::Test& node) {
  const Builtin* test = find_test(node.name);
  if (!test) fail("no test named '{}'", node.name);
  const bool asks = node.name == "defined" || node.name == "undefined";
  const Value value = asks ? evaluate_unless_unknown(*node.value) : evaluate(*node.value);
  Arguments arguments = evaluate(node.arguments);
  BoundCall call(*this, *test, value, arguments);
  return test->function(call);
}

Value Interpreter::visit(const ast::Unary& node) {
  const Value operand = evaluate(*node.operand);
  switch (node.operation) {
    case ast::UnaryOperator::plus: return positive(operand);
    case ast::UnaryOperator::minus: return negate(operand);
    case ast::UnaryOperator::logical_not: return !is_true(operand);
  }
  return {};
}

Value Interpreter::visit(const ast::Binary& node) {
  using Operator = ast::BinaryOperator;
  const Value left = evaluate(*node.left);
  if (node.operation == Operator::logical_and) return is_true(left) ? evaluate(*node.right) : left;
  if (node.operation == Operator::logical_or) return is_true(left) ? left : evaluate(*node.right);
  const Value right = evaluate(*node.right);
  switch (node.operation) {
    case Operator::add: return add(left, right);
    case Operator::subtract: return subtract(left, right);
    case Operator::multiply: return multiply(left, right);
    case Operator::divide: return divide(left, right);
    case Operator::floor_divide: return floor_divide(left, right);
    case Operator::modulo: return modulo(left, right);
    default: return power(left, right);
  }
}

Value Interpreter::visit(const ast::Concatenation& node) {
  TextBuilder text;
  for (const auto& part : node.parts) append_text(text, evaluate(*part));
  return text.take();
}

Value Interpreter::visit(const ast::Compare& node) {
  using ast::Comparison;
  Value left = evaluate(*node.first);
  for (const auto& [comparison, operand] : node.rest) {
    Value right = evaluate(*operand);
    bool holds = false;
    const auto order = [&](const char* symbol) { return compare(left, right, symbol); };
    switch (comparison) {
      case Comparison::equal: holds = equal(left, right); break;
      case Comparison::not_equal: holds = !equal(left, right); break;
      case Comparison::less: holds = order("<") == -1; break;
      case Comparison::less_equal: holds = order("<=") <= 0; break;
      case Comparison::greater: holds = order(">") == 1; break;
      case Comparison::greater_equal: {
        const int o = order(">=");
        holds = o == 0 || o == 1;
        break;
      }
      case Comparison::in: holds = contains(right, left); break;
      case Comparison::not_in: holds = !contains(right, left); break;
    }
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::visit(const ast::Conditional& node) {
  if (is_true(evaluate(*node.condition))) return evaluate(*node.then);
  if (node.otherwise) return evaluate(*node.otherwise);
  return Value::undefined("the inline if-expression evaluated to false and no else section was defined");
}

Value Interpreter::visit(const ast::Sequence& node) {
  std::vector<Value> items;
  for (const auto& item : node.items) items.push_back(evaluate(*item));
  return node.is_tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

Value Interpreter::visit(const ast::Dict& node) {
  auto dict = std::make_shared<DictObject>();
  for (const auto& [key, value] : node.entries) {
    Value name = evaluate(*key);
    dict->set(std::move(name), evaluate(*value));
  }
  return std::shared_ptr<const DictObject>(std::move(dict));
}

// --- statements

Interpreter::Flow Interpreter::execute(const ast::Body& body) {
  for (const auto& statement : body)
    if (const Flow flow = execute(*statement); flow != Flow::normal) return flow;
  return Flow::normal;
}

Interpreter::Flow Interpreter::execute(const ast::Statement& statement) {
  const Level level(*this);
  charge(1);
  line_ = statement.line;
  return std::visit([this](const auto& node) { return visit(node); }, statement.node);
}

Interpreter::Flow Interpreter::visit(const ast::Text& node) {
  output_->append(node.text);
  return Flow::normal;
}

Interpreter::Flow Interpreter::visit(const ast::Print& node) {
  const Value value = evaluate(*node.value);
  append_text(*output_, value);
  return Flow::normal;
}

Interpreter::Flow Interpreter::visit(const ast::If& node) {
  for (const auto& [condition, body] : node.branches)
    if (is_true(evaluate(*condition))) return execute(body);
  return execute(node.otherwise);
}

Interpreter::Flow Interpreter::visit(const ast::For& node) {
  const Value iterable = evaluate(*node.iterable);
  return run_loop(node, iterable, 0);
}

Interpreter::Flow Interpreter::run_loop(const ast::For& node, const Value& iterable, int depth) {
  const auto loop = std::make_shared<Loop>(*this, node, iterate(iterable), depth);
  struct Finish {
    Loop& loop;
    ~Finish() { loop.finish(); }
  } const finish{*loop};
  bool is_empty = true;
  while (loop->advance()) {
    is_empty = false;
    charge(1);
    InnerScope scope(*this);
    scope->set("loop", Value(std::shared_ptr<Object>(loop)));
    assign(node.target, loop->current());
    if (execute(node.body) == Flow::leave_loop) break;
  }
  if (!is_empty) return Flow::normal;
  const InnerScope scope(*this);
  return execute(node.otherwise);
}

Interpreter::Flow Interpreter::visit(const ast::Set& node) {
  assign(node.target, evaluate(*node.value));
  return Flow::normal;
}

Interpreter::Flow Interpreter::visit(const ast::SetBlock& node) {
  Flow flow = Flow::normal;
  Value text = captured([&] {
    const InnerScope scope(*this);
    flow = execute(node.body);
  });
  if (flow != Flow::normal) return flow;
  assign(node.target, node.filter ? apply_filter_chain(*node.filter, text) : text);
  return flow;
}

Interpreter::Flow Interpreter::visit(const ast::FilterBlock& node) {
  Flow flow = Flow::normal;
  const Value text = captured([&] {
    const InnerScope scope(*this);
    flow = execute(node.body);
  });
  if (flow == Flow::normal) append_text(*output_, apply_filter_chain(*node.filter, text));
  return flow;
}

Interpreter::Flow Interpreter::visit(const ast::With& node) {
  std::vector<Value> values;  // all of them before any name is set
  for (const auto& binding : node.bindings) values.push_back(evaluate(*binding.second));
  const InnerScope scope(*this);
  for (std::size_t i = 0; i < values.size(); ++i) assign(node.bindings[i].first, values[i]);
  return execute(node.body);
}

Interpreter::Flow Interpreter::visit(const ast::Block& node) {
  const InnerScope scope(*this, root_.get());
  return execute(node.body);
}

Interpreter::Flow Interpreter::visit(const ast::Macro& node) {
  scope_->set(node.definition->name, make_macro(node.definition));
  return Flow::normal;
}

Interpreter::Flow Interpreter::visit(const ast::CallBlock& node) {
  const auto& call_node = std::get<ast::Call>(node.call->node);
  const Value callee = evaluate(*call_node.callee);
  Arguments arguments = evaluate(call_node.arguments);
  arguments.keywords.emplace_back("caller", make_macro(node.caller));
  append_text(*output_, call(callee, arguments));
  return Flow::normal;
}

void Interpreter::assign(const ast::Target& target, const Value& value) {
  if (target.is_tuple) {
    const std::vector<Value> values = iterate(value);
    if (values.size() != target.elements.size())
      fail("{} values cannot be unpacked into {} names", values.size(), target.elements.size());
    for (std::size_t i = 0; i < values.size(); ++i) assign(target.elements[i], values[i]);
  } else if (target.attribute.empty()) {
    scope_->set(target.name, value);
  } else {
    const Value object = visit(ast::Name{target.name});
    const auto space = object.kind() == Kind::object ? std::dynamic_pointer_cast<Namespace>(object.object()) : nullptr;
    if (!space) fail("cannot assign attribute on non-namespace object '{}'", target.name);
    space->set(target.attribute, value);
  }
}

// --- macros

Value Interpreter::make_macro(std::shared_ptr<const ast::MacroDefinition> definition) {
  for (Scope* scope = scope_; scope; scope = scope->parent) scope->is_captured = true;
  return std::shared_ptr<Object>(std::make_shared<Macro>(std::move(definition), scope_));
}

// Positional arguments first, then keywords and defaults; what is too much goes to varargs and kwargs where the body
// mentions them, and is an error where not.
Value Interpreter::call_macro(const ast::MacroDefinition& macro, Scope* definition_scope, Arguments& arguments) {
  const Level level(*this);
  const int line = line_;
  InnerScope scope(*this, definition_scope);
  auto take_keyword = [&](std::string_view name) -> std::optional<Value> {
    charge(static_cast<std::int64_t>(arguments.keywords.size() / 16));
    const auto found = std::find_if(arguments.keywords.begin(), arguments.keywords.end(),
                                    [&](const auto& k) { return k.first == name; });
    if (found == arguments.keywords.end()) return std::nullopt;
    Value value = std::move(found->second);
    arguments.keywords.erase(found);
    return value;
  };
  const std::size_t count = macro.parameters.size(), first_default = count - macro.defaults.size();
  std::vector<std::size_t> missing;
  bool has_caller_parameter = false;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& name = macro.parameters[i];
    has_caller_parameter |= name == "caller";
    if (i < arguments.positional.size())
      scope->set(name, arguments.positional[i]);
    else if (auto value = take_keyword(name))
      scope->set(name, std::move(*value));
    else if (i < first_default)
      scope->set(name, Value::undefined(fmt::format("parameter '{}' was not provided", name)));
    else
      missing.push_back(i);
  }
  for (const std::size_t i : missing) scope->set(macro.parameters[i], evaluate(*macro.defaults[i - first_default]));
  if (macro.uses_caller && !has_caller_parameter) {
    auto caller = take_keyword("caller");
    scope->set("caller", caller ? std::move(*caller) : Value::undefined("No caller defined"));
  }
  if (macro.uses_kwargs) {
    auto rest = std::make_shared<DictObject>();
    for (auto& [name, value] : arguments.keywords) rest->set(name, std::move(value));
    scope->set("kwargs", Value(std::shared_ptr<const DictObject>(std::move(rest))));
  } else if (!arguments.keywords.empty()) {
    fail("macro '{}' takes no keyword argument '{}'", macro.name, arguments.keywords[0].first);
  }
  const std::size_t used = std::min(count, arguments.positional.size());
  std::vector<Value> rest(arguments.positional.begin() + static_cast<std::ptrdiff_t>(used), arguments.positional.end());
  if (macro.uses_varargs)
    scope->set("varargs", Value::tuple(std::move(rest)));
  else if (!rest.empty())
    fail("macro '{}' takes not more than {} argument(s)", macro.name, count);

  std::string text = captured([&] { execute(macro.body); });
  line_ = line;
  return text;
}

}  // namespace lathe::jinja
