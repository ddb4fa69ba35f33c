// The syntax tree of a template: one struct a construct, expressions and statements each a variant of them.
#pragma once
#include <cstdint>
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

struct CallArguments {
  std::vector<ExpressionPointer> positional;
  std::vector<std::pair<std::string, ExpressionPointer>> keywords;
  ExpressionPointer more_positional, more_keywords;  // *a and **b, or null
};

enum class UnaryOperator { plus, minus, logical_not };
enum class BinaryOperator { add, subtract, multiply, divide, floor_divide, modulo, power, logical_and, logical_or };
enum class Comparison { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };

struct Constant {
  Value value;
};
struct Name {
  std::string name;
};
// a.b
struct Attribute {
  ExpressionPointer object;
  std::string name;
};
// a[b]
struct Subscript {
  ExpressionPointer object, index;
};
// a[b:c:d], each bound may be null
struct Slice {
  ExpressionPointer object, start, stop, step;
};
struct Call {
  ExpressionPointer callee;
  CallArguments arguments;
};
// value | name(arguments); the value is null where a block's text takes its place
struct Filter {
  ExpressionPointer value;
  std::string name;
  CallArguments arguments;
};
struct Test {
  ExpressionPointer value;
  std::string name;
  CallArguments arguments;
};
struct Unary {
  UnaryOperator operation;
  ExpressionPointer operand;
};
struct Binary {
  BinaryOperator operation;
  ExpressionPointer left, right;
};
// a ~ b ~ c
struct Concatenation {
  std::vector<ExpressionPointer> parts;
};
// a < b < c
struct Compare {
  ExpressionPointer first;
  std::vector<std::pair<Comparison, ExpressionPointer>> rest;
};
// then if condition else otherwise; the last may be null
struct Conditional {
  ExpressionPointer condition, then, otherwise;
};
struct Sequence {
  std::vector<ExpressionPointer> items;
  bool is_tuple;
};
struct Dict {
  std::vector<std::pair<ExpressionPointer, ExpressionPointer>> entries;
};

struct Expression {
  int line;
  int depth;  // of the tree below, itself included
  std::variant<Constant, Name, Attribute, Subscript, Slice, Call, Filter, Test, Unary, Binary, Concatenation, Compare,
               Conditional, Sequence, Dict>
      node;
};

// What an assignment, a loop or a `with` binds: a name, `namespace.attribute`, or a tuple of targets.
struct Target {
  std::string name, attribute;
  std::vector<Target> elements;
  bool is_tuple = false;
};

// The signature and body of a macro or of a call block. The last defaults.size() parameters have defaults.
struct MacroDefinition {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPointer> defaults;
  Body body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
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
// Filter may be null
struct SetBlock {
  Target target;
  ExpressionPointer filter;
  Body body;
};
struct FilterBlock {
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
// Also {% generation %}
struct With {
  std::vector<std::pair<Target, ExpressionPointer>> bindings;
  Body body;
};
// {% block %}: sees the template's own names, not those of what it stands in
struct Block {
  Body body;
};
struct Break {};
struct Continue {};

struct Statement {
  int line;
  std::variant<Text, Print, If, For, Set, SetBlock, FilterBlock, Macro, CallBlock, With, Block, Break, Continue> node;
};

}  // namespace lathe::jinja::ast
