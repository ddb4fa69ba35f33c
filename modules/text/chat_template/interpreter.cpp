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
    if (name == "caller") return Value(definition_->mentions.caller);
    if (name == "catch_varargs") return Value(definition_->mentions.varargs);
    if (name == "catch_kwargs") return Value(definition_->mentions.kwargs);
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

  std::optional<Value> attribute(std::string_view name) override {
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
    return make_function(std::string(name), 0,
                         [name = "loop." + std::string(name)](Interpreter&, Arguments&) -> Value { refuse(name); });
  }

  // loop(items) of a recursive loop renders the loop over these items.
  Value call(Interpreter& interpreter, Arguments& arguments) override {
    if (!node_.is_recursive) fail("the loop must have the 'recursive' marker to be called recursively");
    if (!interpreter_ || arguments.positional.size() != 1) fail("loop() takes the items of a loop that is running");
    const Interpreter::InnerScope scope(interpreter, scope_);
    return interpreter.captured([&] { interpreter.run_loop(node_, arguments.positional[0], depth0_ + 1); });
  }

  // To the next item, if there is one.
  bool advance() {
    if (ahead_.empty() && !look_ahead()) return false;
    previous_ = std::exchange(current_, std::move(ahead_.front()));
    ahead_.pop_front();
    ++index0_;
    return true;
  }
  const Value& current() const { return current_; }
  void finish() { interpreter_ = nullptr; }  // there are no more items

 private:
  bool look_ahead() {
    while (interpreter_ && taken_ < source_.items().size()) {
      const Value& item = source_.items()[taken_++];
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

  std::int64_t length() {
    while (look_ahead()) {}
    return index0_ + 1 + static_cast<std::int64_t>(ahead_.size());
  }

  Interpreter* interpreter_;  // null when the loop is over
  const ast::For& node_;
  Scope* scope_;  // that the loop stands in
  Value source_;
  std::size_t taken_ = 0;
  std::deque<Value> ahead_;
  std::int64_t index0_ = -1;
  int depth0_;
  Value previous_, current_;
};

// --- the interpreter

Interpreter::Interpreter(const ast::Body& body, const std::tm& now, const Limits& limits)
    : budget_{limits},
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
  const Restored<TextBuilder*> writing(output_, &text);
  run();
  return text.take();
}

std::string Interpreter::formatted_now(std::string_view format) const { return format_time(now_, format); }

Value Interpreter::call(const Value& callee, Arguments& arguments) {
  require_defined(callee);
  if (callee.kind() != Kind::object) fail("'{}' object is not callable", type_name(callee));
  const std::shared_ptr<Object> object = callee.object();
  return object->call(*this, arguments);
}

// --- expressions

// What each kind of expression is worth.
struct Interpreter::Evaluation {
  Interpreter& in;
  const ast::Expression& expression;

  Value part(std::size_t i) const { return in.evaluate(*expression.parts[i]); }

  Value operator()(const ast::Constant& node) const { return node.value; }
  Value operator()(const ast::Name& node) const { return in.read(node.name); }
  Value operator()(const ast::Attribute& node) const { return get_attribute(part(0), node.name); }
  Value operator()(const ast::Operation& node) const {
    std::vector<Value> operands;
    for (const auto& operand : expression.parts) operands.push_back(operand ? in.evaluate(*operand) : Value());
    return node.apply(operands);
  }
  Value operator()(const ast::Logical& node) const {
    Value left = part(0);
    return is_true(left) == node.is_and ? part(1) : left;
  }
  Value operator()(const ast::Compare& node) const {
    Value left = part(0);
    for (std::size_t i = 0; i < node.relations.size(); ++i) {
      Value right = part(i + 1);
      if (!node.relations[i](left, right)) return false;
      left = std::move(right);
    }
    return true;
  }
  Value operator()(const ast::Conditional&) const {
    if (is_true(part(0))) return part(1);
    if (expression.parts[2]) return part(2);
    return Value::undefined("the inline if-expression evaluated to false and no else section was defined");
  }
  Value operator()(const ast::Call& node) const {
    const Value callee = part(0);
    Arguments arguments = in.evaluate(node.arguments, expression);
    return in.call(callee, arguments);
  }
  Value operator()(const ast::Filter& node) const {
    return in.apply_filter(expression, node.name == "default" || node.name == "d" ? subject_that_may_miss() : part(0));
  }
  Value operator()(const ast::Test& node) const {
    const Builtin& test = require_builtin(find_test, "test", node.name);
    const bool asks = node.name == "defined" || node.name == "undefined";
    const Value value = asks ? subject_that_may_miss() : part(0);
    Arguments arguments = in.evaluate(node.arguments, expression);
    return call_builtin(in, test, node.name, value, arguments);
  }

 private:
  // A name that is asked for being defined, or has a default, is not noted as unknown.
  Value subject_that_may_miss() const {
    const auto* name = std::get_if<ast::Name>(&expression.parts[0]->node);
    return name ? in.value_or_undefined(name->name) : part(0);
  }
};

Nested Interpreter::nested() {
  return Nested(depth_, maximum_depth_,
                [this] { fail("the template is nested or calls itself more than {} levels deep", maximum_depth_); });
}

Value Interpreter::evaluate(const ast::Expression& expression) {
  const Nested level = nested();
  charge(1);
  line_ = expression.line;
  return std::visit(Evaluation{*this, expression}, expression.node);
}

Value Interpreter::value_or_undefined(const std::string& name) const {
  for (const Scope* scope = scope_; scope; scope = scope->parent)
    if (const Value* value = scope->find(name)) return *value;
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Value Interpreter::read(const std::string& name) {
  Value value = value_or_undefined(name);
  if (value.is_undefined()) unknown_names_.insert(name);
  return value;
}

Arguments Interpreter::evaluate(const ast::ArgumentList& list, const ast::Expression& of) {
  Arguments arguments;
  auto part = of.parts.begin() + 1;
  for (std::size_t i = 0; i < list.positional; ++i) arguments.positional.push_back(evaluate(**part++));
  for (const std::string& name : list.keywords) arguments.keywords.emplace_back(name, evaluate(**part++));
  if (list.has_more_positional)
    for (Value& value : iterate(evaluate(**part++))) arguments.positional.push_back(std::move(value));
  if (!list.has_more_keywords) return arguments;
  const Value more = evaluate(**part);
  if (!more.is_dict()) fail("argument after ** must be a mapping, not {}", type_name(more));
  for (const auto& [name, value] : more.dict().entries()) {
    if (!name.is_string()) fail("keywords must be strings");
    arguments.keywords.emplace_back(name.text(), value);
  }
  return arguments;
}

Value Interpreter::apply_filter(const ast::Expression& expression, const Value& value) {
  const auto& node = std::get<ast::Filter>(expression.node);
  const Builtin& filter = require_builtin(find_filter, "filter", node.name);
  Arguments arguments = evaluate(node.arguments, expression);
  return call_builtin(*this, filter, node.name, value, arguments);
}

// The filters of a block on its text: the innermost has no value of its own.
Value Interpreter::apply_filter_chain(const ast::Expression& filter, const Value& text) {
  const Nested level = nested();
  line_ = filter.line;
  return apply_filter(filter, filter.parts[0] ? apply_filter_chain(*filter.parts[0], text) : text);
}

// --- statements

// What each kind of statement does.
struct Interpreter::Execution {
  Interpreter& in;

  Flow operator()(const ast::Text& node) const { return in.output_->append(node.text), Flow::normal; }
  Flow operator()(const ast::Print& node) const {
    const Value value = in.evaluate(*node.value);
    append_text(*in.output_, value);
    return Flow::normal;
  }
  Flow operator()(const ast::If& node) const {
    for (const auto& [condition, body] : node.branches)
      if (is_true(in.evaluate(*condition))) return in.execute(body);
    return in.execute(node.otherwise);
  }
  Flow operator()(const ast::For& node) const { return in.run_loop(node, in.evaluate(*node.iterable), 0); }
  Flow operator()(const ast::Set& node) const { return in.assign(node.target, in.evaluate(*node.value)), Flow::normal; }
  Flow operator()(const ast::Capture& node) const {
    Flow flow = Flow::normal;
    Value text = in.captured([&] {
      const InnerScope scope(in);
      flow = in.execute(node.body);
    });
    if (flow != Flow::normal) return flow;
    if (node.filter) text = in.apply_filter_chain(*node.filter, text);
    if (node.target)
      in.assign(*node.target, text);
    else
      append_text(*in.output_, text);
    return flow;
  }
  Flow operator()(const ast::Macro& node) const {
    in.scope_->set(node.definition->name, in.make_macro(node.definition));
    return Flow::normal;
  }
  Flow operator()(const ast::CallBlock& node) const {
    const Value callee = in.evaluate(*node.call->parts[0]);
    Arguments arguments = in.evaluate(std::get<ast::Call>(node.call->node).arguments, *node.call);
    arguments.keywords.emplace_back("caller", in.make_macro(node.caller));
    append_text(*in.output_, in.call(callee, arguments));
    return Flow::normal;
  }
  Flow operator()(const ast::Scoped& node) const {
    std::vector<Value> values;  // all of them before any name is set
    for (const auto& binding : node.bindings) values.push_back(in.evaluate(*binding.second));
    const InnerScope scope(in, node.is_block ? in.root_.get() : in.scope_);
    for (std::size_t i = 0; i < values.size(); ++i) in.assign(node.bindings[i].first, values[i]);
    return in.execute(node.body);
  }
  Flow operator()(const ast::LoopControl& node) const { return node.leaves ? Flow::leave_loop : Flow::next_iteration; }
};

Interpreter::Flow Interpreter::execute(const ast::Body& body) {
  for (const auto& statement : body)
    if (const Flow flow = execute(*statement); flow != Flow::normal) return flow;
  return Flow::normal;
}

Interpreter::Flow Interpreter::execute(const ast::Statement& statement) {
  const Nested level = nested();
  charge(1);
  line_ = statement.line;
  return std::visit(Execution{*this}, statement.node);
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
    scope->set("loop", loop);
    assign(node.target, loop->current());
    if (execute(node.body) == Flow::leave_loop) break;
  }
  if (!is_empty) return Flow::normal;
  const InnerScope scope(*this);
  return execute(node.otherwise);
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
    const Value object = read(target.name);
    const auto space = object.kind() == Kind::object ? std::dynamic_pointer_cast<Namespace>(object.object()) : nullptr;
    if (!space) fail("cannot assign attribute on non-namespace object '{}'", target.name);
    space->set(target.attribute, value);
  }
}

// --- macros

Value Interpreter::make_macro(std::shared_ptr<const ast::MacroDefinition> definition) {
  for (Scope* scope = scope_; scope; scope = scope->parent) scope->is_captured = true;
  return std::make_shared<Macro>(std::move(definition), scope_);
}

// Positional arguments first, then keywords and defaults; what is too much goes to varargs and kwargs where the body
// mentions them, and is an error where not.
Value Interpreter::call_macro(const ast::MacroDefinition& macro, Scope* definition_scope, Arguments& arguments) {
  const Nested level = nested();
  const int line = line_;
  InnerScope scope(*this, definition_scope);
  const auto take_keyword = [&](std::string_view name) -> std::optional<Value> {
    charge(static_cast<std::int64_t>(arguments.keywords.size() / 16));
    const auto found = std::find_if(arguments.keywords.begin(), arguments.keywords.end(),
                                    [&](const auto& k) { return k.first == name; });
    if (found == arguments.keywords.end()) return std::nullopt;
    Value value = std::move(found->second);
    arguments.keywords.erase(found);
    return value;
  };
  const std::vector<std::string>& names = macro.parameters;
  const std::size_t count = names.size(), first_default = count - macro.defaults.size();
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < count; ++i) {
    auto value = i < arguments.positional.size() ? std::optional(arguments.positional[i]) : take_keyword(names[i]);
    if (value)
      scope->set(names[i], std::move(*value));
    else if (i < first_default)
      scope->set(names[i], Value::undefined(fmt::format("parameter '{}' was not provided", names[i])));
    else
      missing.push_back(i);
  }
  for (const std::size_t i : missing) scope->set(names[i], evaluate(*macro.defaults[i - first_default]));
  if (macro.mentions.caller && std::find(names.begin(), names.end(), "caller") == names.end()) {
    auto caller = take_keyword("caller");
    scope->set("caller", caller ? std::move(*caller) : Value::undefined("No caller defined"));
  }
  if (macro.mentions.kwargs) {
    auto rest = std::make_shared<DictObject>();
    for (auto& [name, value] : arguments.keywords) rest->set(name, std::move(value));
    scope->set("kwargs", rest);
  } else if (!arguments.keywords.empty()) {
    fail("macro '{}' takes no keyword argument '{}'", macro.name, arguments.keywords[0].first);
  }
  const std::size_t used = std::min(count, arguments.positional.size());
  std::vector<Value> rest(arguments.positional.begin() + static_cast<std::ptrdiff_t>(used), arguments.positional.end());
  if (macro.mentions.varargs)
    scope->set("varargs", Value::tuple(std::move(rest)));
  else if (!rest.empty())
    fail("macro '{}' takes not more than {} argument(s)", macro.name, count);

  std::string text = captured([&] { execute(macro.body); });
  line_ = line;
  return text;
}

}  // namespace lathe::jinja
