// The syntax tree of a template, and its parser. One struct a construct, expressions and statements each a variant.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/chat_template/value.h"

namespace lathe::jinja::ast {

struct Expression;
struct Statement;
using ExpressionPointer = std::unique_ptr<Expression>;
using Body = std::vector<std::unique_ptr<Statement>>;

// The expressions; each says what its parts are.
struct Constant {  // none
  Value value;
};
struct Name {  // none
  std::string name;
};
struct Attribute {  // a.b: the object
  std::string name;
};
// What is computed from its parts, which are evaluated in order, None for one that is null: -a, a + b, a ~ b, a[b],
// a[b:c:d], [a, b], {a: b}
struct Operation {
  Value (*apply)(std::vector<Value>& operands);
};
struct Logical {  // a and b, a or b: the second is evaluated where the first does not decide
  bool is_and;
};
struct Compare {  // a < b < c: one part more than relations
  std::vector<bool (*)(const Value&, const Value&)> relations;
};
struct Conditional {};  // b if a else c: a, b and c, which may be null

// Of the parts from the second on: positional arguments, those with keywords, those of *a and of **b.
struct ArgumentList {
  std::size_t positional = 0;
  std::vector<std::string> keywords;
  bool has_more_positional = false, has_more_keywords = false;
};
struct Call {  // the callee and the arguments
  ArgumentList arguments;
};
struct Filter {  // value | name(arguments): the value, null where a block's text takes its place, and the arguments
  std::string name;
  ArgumentList arguments;
};
struct Test {  // value is name(arguments)
  std::string name;
  ArgumentList arguments;
};

struct Expression {
  int line;
  int depth;  // of the tree below, itself included
  std::variant<Constant, Name, Attribute, Operation, Logical, Compare, Conditional, Call, Filter, Test> node;
  std::vector<ExpressionPointer> parts;
};

// What an assignment, a loop or a `with` binds: a name, `namespace.attribute`, or a tuple of targets.
struct Target {
  std::string name, attribute;
  std::vector<Target> elements;
  bool is_tuple = false;
};

// What a macro takes beyond its parameters, because its body names it.
struct Mentions {
  bool caller = false, varargs = false, kwargs = false;
};

// The signature and body of a macro or of a call block. The last defaults.size() parameters have defaults.
struct MacroDefinition {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPointer> defaults;
  Body body;
  Mentions mentions;
};

struct Text {
  std::string text;
};
struct Print {
  ExpressionPointer value;
};
struct If {
  std::vector<std::pair<ExpressionPointer, Body>> branches;
  Body otherwise;
};
struct For {
  Target target;
  ExpressionPointer iterable, condition;
  Body body, otherwise;
  bool is_recursive;
};
struct Set {
  Target target;
  ExpressionPointer value;
};
// {% set x %} and {% filter f %}: the body's text through the filters, which may be null, into the target or written
struct Capture {
  std::optional<Target> target;
  ExpressionPointer filter;
  Body body;
};
struct Macro {
  std::shared_ptr<const MacroDefinition> definition;
};
struct CallBlock {
  ExpressionPointer call;
  std::shared_ptr<const MacroDefinition> caller;
};
// {% with %}, {% generation %} and {% block %}, which sees the template's own names, not those of what it stands in
struct Scoped {
  std::vector<std::pair<Target, ExpressionPointer>> bindings;
  Body body;
  bool is_block = false;
};
struct LoopControl {  // {% break %} and {% continue %}
  bool leaves;
};

struct Statement {
  int line;
  std::variant<Text, Print, If, For, Set, Capture, Macro, CallBlock, Scoped, LoopControl> node;
};

}  // namespace lathe::jinja::ast

namespace lathe::jinja {

// By recursive descent over the grammar of Jinja2 3.1 (jinja2/parser.py), with loop controls and `{% generation %}`.
// Throws Error("line N: ...") on a syntax error, on nesting deeper than `maximum_parse_depth`, and on a filter or test
// that does not exist, unless an `if` decides whether it is used (then the error comes when it is, as in the
// reference).
ast::Body parse_template(std::string_view source);

}  // namespace lathe::jinja
