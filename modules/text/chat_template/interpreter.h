// Evaluates a template's syntax tree: one object renders once.
//
// Scopes are as in Jinja2: a loop's iteration, a macro, `with`, a captured block and a call block have their own names,
// which end with them; an `if` has none. The surprising decision: a scope that a macro was defined in, and every
// namespace, belong to the interpreter until the render ends, because they can refer to themselves in a circle.
#pragma once
#include <ctime>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/chat_template/ast.h"
#include "text/chat_template/builtins.h"

namespace lathe::jinja {

struct Scope : Tracked {
  explicit Scope(Scope* parent) : Tracked(sizeof(Scope)), parent(parent) {}
  const Value* find(std::string_view name) const;  // here alone
  void set(std::string_view name, Value value);    // `name` must outlive the scope
  Scope* parent;
  bool is_captured = false;

 private:
  std::vector<std::pair<std::string_view, Value>> names_;
};

class Loop;

class Interpreter {
 public:
  // `body` and the names of the variables must live as long as the interpreter.
  Interpreter(const ast::Body& body, const std::tm& now, const Limits& limits);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  void set(std::string_view name, Value value) { root_->set(name, std::move(value)); }
  std::string render();  // throws Error; line() then says where
  int line() const { return line_; }
  // Names that were read without a value, but for `is defined` and `default`.
  const std::set<std::string, std::less<>>& unknown_names() const { return unknown_names_; }

  // For what templates call.
  Value call(const Value& callee, Arguments& arguments);
  std::string formatted_now(std::string_view format) const;
  void own(std::shared_ptr<Namespace> object) { namespaces_.push_back(std::move(object)); }

 private:
  friend class Loop;
  friend class Macro;
  enum class Flow { normal, leave_loop, next_iteration };
  class InnerScope;
  struct Evaluation;
  struct Execution;

  Value evaluate(const ast::Expression& expression);
  Arguments evaluate(const ast::ArgumentList& list, const ast::Expression& of);
  Value value_or_undefined(const std::string& name) const;
  Value read(const std::string& name);  // notes one that is unknown
  Value apply_filter(const ast::Expression& filter, const Value& value);
  Value apply_filter_chain(const ast::Expression& filter, const Value& text);

  Flow execute(const ast::Body& body);
  Flow execute(const ast::Statement& statement);
  Flow run_loop(const ast::For& node, const Value& iterable, int depth);
  void assign(const ast::Target& target, const Value& value);
  Value make_macro(std::shared_ptr<const ast::MacroDefinition> definition);
  Value call_macro(const ast::MacroDefinition& definition, Scope* scope, Arguments& arguments);
  Nested nested();
  template <class Function>
  std::string captured(Function&& run);  // what it writes

  Budget budget_;
  const Active<Budget> counted_{&budget_};
  const ast::Body& body_;
  std::tm now_;
  int maximum_depth_, depth_ = 0, line_ = 1;
  std::set<std::string, std::less<>> unknown_names_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  std::deque<std::unique_ptr<Scope>> captured_scopes_;
  std::unique_ptr<Scope> root_;
  Scope* scope_;
  TextBuilder* output_ = nullptr;
};

}  // namespace lathe::jinja
