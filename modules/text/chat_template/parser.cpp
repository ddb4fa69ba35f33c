// The parser of chat templates: statements first, then expressions from the loosest binding to the tightest.
#include "text/chat_template/parser.h"

#include <algorithm>
#include <initializer_list>
#include <set>

#include "text/chat_template/builtins.h"
#include "text/chat_template/lexer.h"

namespace lathe::jinja {
namespace {

using namespace ast;
using Type = Token::Type;

int depth_of(const ExpressionPointer& expression) { return expression ? expression->depth : 0; }

template <class Range>
int deepest(const Range& expressions) {
  int depth = 0;
  for (const auto& expression : expressions) depth = std::max(depth, depth_of(expression));
  return depth;
}

int depth_of(const CallArguments& arguments) {
  int depth =
      std::max({deepest(arguments.positional), depth_of(arguments.more_positional), depth_of(arguments.more_keywords)});
  for (const auto& keyword : arguments.keywords) depth = std::max(depth, depth_of(keyword.second));
  return depth;
}

// The depth of the subtrees of each kind of expression.
struct ChildDepth {
  int operator()(const Constant&) const { return 0; }
  int operator()(const Name&) const { return 0; }
  int operator()(const Attribute& e) const { return depth_of(e.object); }
  int operator()(const Subscript& e) const { return std::max(depth_of(e.object), depth_of(e.index)); }
  int operator()(const Slice& e) const {
    return std::max({depth_of(e.object), depth_of(e.start), depth_of(e.stop), depth_of(e.step)});
  }
  int operator()(const Call& e) const { return std::max(depth_of(e.callee), depth_of(e.arguments)); }
  int operator()(const Filter& e) const { return std::max(depth_of(e.value), depth_of(e.arguments)); }
  int operator()(const Test& e) const { return std::max(depth_of(e.value), depth_of(e.arguments)); }
  int operator()(const Unary& e) const { return depth_of(e.operand); }
  int operator()(const Binary& e) const { return std::max(depth_of(e.left), depth_of(e.right)); }
  int operator()(const Concatenation& e) const { return deepest(e.parts); }
  int operator()(const Compare& e) const {
    int depth = depth_of(e.first);
    for (const auto& operand : e.rest) depth = std::max(depth, depth_of(operand.second));
    return depth;
  }
  int operator()(const Conditional& e) const {
    return std::max({depth_of(e.condition), depth_of(e.then), depth_of(e.otherwise)});
  }
  int operator()(const Sequence& e) const { return deepest(e.items); }
  int operator()(const Dict& e) const {
    int depth = 0;
    for (const auto& [key, value] : e.entries) depth = std::max({depth, depth_of(key), depth_of(value)});
    return depth;
  }
};

class Parser {
 public:
  explicit Parser(std::string_view source) : lexer_(source), current_(lexer_.next()), following_(lexer_.next()) {}

  Body parse() {
    Body body = parse_body({});
    require_known_names(0);
    return body;
  }

 private:
  using Words = std::initializer_list<std::string_view>;

  // --- tokens
  Token advance() {
    Token token = std::move(current_);
    current_ = std::move(following_);
    following_ = lexer_.next();
    return token;
  }
  bool skip_symbol(std::string_view symbol) { return current_.is_symbol(symbol) && (advance(), true); }
  bool skip_name(std::string_view name) { return current_.is_name(name) && (advance(), true); }
  void expect_symbol(std::string_view symbol) {
    if (!skip_symbol(symbol)) fail_here(fmt::format("expected '{}', got '{}'", symbol, describe(current_)));
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) fail_here(fmt::format("expected '{}', got '{}'", name, describe(current_)));
  }
  std::string expect_identifier() {
    if (current_.type != Type::name) fail_here(fmt::format("expected a name, got '{}'", describe(current_)));
    return advance().text;
  }
  void expect(Type type) {
    Token wanted;
    wanted.type = type;
    if (current_.type != type) fail_here(fmt::format("expected {}, got '{}'", describe(wanted), describe(current_)));
    advance();
  }
  [[noreturn]] void fail_here(const std::string& message) const { syntax_error(current_.line, message); }

  // --- bounds
  class Nesting {
   public:
    explicit Nesting(Parser& parser) : parser_(parser) {
      if (++parser_.nesting_ > maximum_parse_depth)
        parser_.fail_here(fmt::format("nested more than {} deep", maximum_parse_depth));
    }
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    Parser& parser_;
  };

  template <class Node>
  ExpressionPointer make(int line, Node node) {
    const int depth = 1 + ChildDepth{}(node);
    // A chain such as 1 + 1 + 1 ... is a deep tree although no bracket is nested.
    if (depth > maximum_parse_depth)
      syntax_error(line, fmt::format("an expression is more than {} operations deep", maximum_parse_depth));
    return std::make_unique<Expression>(Expression{line, depth, std::move(node)});
  }

  template <class Node>
  static std::unique_ptr<Statement> statement(int line, Node node) {
    return std::make_unique<Statement>(Statement{line, std::move(node)});
  }

  // --- filters and tests that do not exist, tolerated where an `if` stands between them and their use
  void note_name(bool exists, const char* what, const std::string& name, int line) {
    if (!exists) unknown_names_.push_back({line, fmt::format("no {} named '{}'", what, name)});
  }
  void require_known_names(std::size_t from) const {
    if (unknown_names_.size() > from) syntax_error(unknown_names_[from].first, unknown_names_[from].second);
  }
  void tolerate_unknown_names(std::size_t from) { unknown_names_.resize(std::min(from, unknown_names_.size())); }

  // --- statements
  Body parse_body(Words end_words);
  Body parse_inner(Words end_words);
  Body parse_until(std::string_view end_word);
  std::unique_ptr<Statement> parse_statement();
  std::unique_ptr<Statement> parse_if();
  std::unique_ptr<Statement> parse_for();
  std::unique_ptr<Statement> parse_set();
  std::unique_ptr<Statement> parse_with();
  std::unique_ptr<Statement> parse_call_block();
  std::unique_ptr<Statement> parse_block();
  std::unique_ptr<Statement> parse_loop_control();
  void parse_print(Body& body);
  void parse_signature(MacroDefinition& definition);
  void parse_macro_body(MacroDefinition& definition, std::string_view end_word);
  Target parse_target(bool allows_namespace);
  Target parse_target_element(bool allows_namespace);

  // --- expressions
  ExpressionPointer parse_expression() { return parse_conditional(); }
  ExpressionPointer parse_tuple(bool allows_conditional = true, bool in_parentheses = false,
                                bool ends_at_recursive = false);
  ExpressionPointer parse_conditional();
  ExpressionPointer parse_or();
  ExpressionPointer parse_and();
  ExpressionPointer parse_not();
  ExpressionPointer parse_comparison();
  ExpressionPointer parse_sum();
  ExpressionPointer parse_concatenation();
  ExpressionPointer parse_product();
  ExpressionPointer parse_power();
  ExpressionPointer parse_unary(bool with_filters);
  ExpressionPointer parse_primary();
  ExpressionPointer parse_name();
  ExpressionPointer parse_list();
  ExpressionPointer parse_dict();
  ExpressionPointer parse_postfix(ExpressionPointer expression);
  ExpressionPointer parse_filters_and_tests(ExpressionPointer expression);
  ExpressionPointer parse_attribute(ExpressionPointer object);
  ExpressionPointer parse_subscript(ExpressionPointer object);
  ExpressionPointer parse_filter(ExpressionPointer value);
  ExpressionPointer parse_filter_chain(ExpressionPointer value);
  ExpressionPointer parse_test(ExpressionPointer value);
  ExpressionPointer parse_call(ExpressionPointer callee);
  CallArguments parse_arguments();

  Lexer lexer_;
  Token current_, following_;
  int nesting_ = 0;
  int loops_ = 0;  // around the current statement, within the same macro
  bool saw_caller_ = false, saw_varargs_ = false, saw_kwargs_ = false;
  std::vector<std::pair<int, std::string>> unknown_names_;
  std::set<std::string> blocks_;
};

// Up to a tag that begins with one of `end_words`, whose name is then the current token; or to the template's end.
Body Parser::parse_body(Words end_words) {
  const Nesting nesting(*this);
  Body body;
  while (true) {
    const int line = current_.line;
    if (current_.type == Type::data) {
      body.push_back(statement(line, Text{advance().text}));
    } else if (current_.type == Type::variable_begin) {
      advance();
      ExpressionPointer value = parse_tuple();
      expect(Type::variable_end);
      body.push_back(statement(line, Print{std::move(value)}));
    } else if (current_.type == Type::block_begin) {
      advance();
      if (std::any_of(end_words.begin(), end_words.end(), [&](auto word) { return current_.is_name(word); }))
        return body;
      if (skip_name("print"))
        parse_print(body);
      else
        body.push_back(parse_statement());
      expect(Type::block_end);
    } else {
      if (end_words.size() != 0)
        fail_here(fmt::format("unexpected end of template, expected '{}'", *(end_words.end() - 1)));
      return body;
    }
  }
}

// A body behind its opening tag, whose end is still to come.
Body Parser::parse_inner(Words end_words) {
  skip_symbol(":");
  expect(Type::block_end);
  return parse_body(end_words);
}

Body Parser::parse_until(std::string_view end_word) {
  Body body = parse_inner({end_word});
  advance();
  return body;
}

std::unique_ptr<Statement> Parser::parse_statement() {
  const Nesting nesting(*this);
  if (current_.type != Type::name) fail_here(fmt::format("expected the name of a tag, got '{}'", describe(current_)));
  const int line = current_.line;
  const std::string word = current_.text;
  if (word == "if") return parse_if();
  if (word == "break" || word == "continue") return parse_loop_control();
  if (word == "set") return parse_set();
  if (word == "for") return parse_for();

  // The others have a scope of their own, for which no `if` around them decides whether a filter is used.
  const std::size_t unknown = unknown_names_.size();
  std::unique_ptr<Statement> result;
  if (word == "with" || word == "generation") {
    result = parse_with();
  } else if (word == "block") {
    result = parse_block();
  } else if (word == "call") {
    result = parse_call_block();
  } else if (word == "filter") {
    advance();
    ExpressionPointer filter = parse_filter_chain(parse_filter(nullptr));
    Body body = parse_until("endfilter");
    result = statement(line, FilterBlock{std::move(filter), std::move(body)});
  } else if (word == "macro") {
    advance();
    auto definition = std::make_shared<MacroDefinition>();
    definition->name = expect_identifier();
    parse_signature(*definition);
    parse_macro_body(*definition, "endmacro");
    result = statement(line, ast::Macro{std::move(definition)});
  } else if (word == "autoescape" && following_.is_name("false")) {  // nothing is escaped in any case
    advance(), expect_name("false");
    With node;
    node.body = parse_until("endautoescape");
    result = statement(line, std::move(node));
  } else if (word == "extends" || word == "include" || word == "import" || word == "from") {
    fail_here(fmt::format("'{}' needs another template, and a chat template has none", word));
  } else {
    fail_here(fmt::format("unknown tag '{}'", word));
  }
  require_known_names(unknown);
  return result;
}

std::unique_ptr<Statement> Parser::parse_if() {
  const int line = advance().line;
  const std::size_t unknown = unknown_names_.size();
  If node;
  while (true) {
    ExpressionPointer condition = parse_tuple(false);
    Body body = parse_inner({"elif", "else", "endif"});
    node.branches.emplace_back(std::move(condition), std::move(body));
    const Token end = advance();
    if (end.is_name("elif")) continue;
    if (end.is_name("else")) node.otherwise = parse_until("endif");
    break;
  }
  tolerate_unknown_names(unknown);
  return statement(line, std::move(node));
}

std::unique_ptr<Statement> Parser::parse_for() {
  const int line = advance().line;
  For node{};
  node.target = parse_target(false);
  if (node.target.name == "loop") fail_here("cannot assign to 'loop' in a for loop");
  expect_name("in");
  node.iterable = parse_tuple(false, false, true);
  const std::size_t unknown = unknown_names_.size();
  if (skip_name("if")) node.condition = parse_expression();
  node.is_recursive = skip_name("recursive");
  ++loops_;
  node.body = parse_inner({"else", "endfor"});
  --loops_;
  if (advance().is_name("else")) node.otherwise = parse_until("endfor");
  require_known_names(unknown);
  return statement(line, std::move(node));
}

std::unique_ptr<Statement> Parser::parse_loop_control() {
  if (loops_ == 0) fail_here(fmt::format("'{}' outside of a loop", current_.text));
  const Token token = advance();
  if (token.text == "break") return statement(token.line, Break{});
  return statement(token.line, Continue{});
}

std::unique_ptr<Statement> Parser::parse_set() {
  const int line = advance().line;
  Target target = parse_target(true);
  if (skip_symbol("=")) return statement(line, Set{std::move(target), parse_tuple()});
  const std::size_t unknown = unknown_names_.size();
  ExpressionPointer filter;
  if (skip_symbol("|")) filter = parse_filter_chain(parse_filter(nullptr));
  Body body = parse_until("endset");
  require_known_names(unknown);
  return statement(line, SetBlock{std::move(target), std::move(filter), std::move(body)});
}

std::unique_ptr<Statement> Parser::parse_with() {
  const Token token = advance();
  With node;
  while (token.text == "with" && current_.type != Type::block_end) {
    if (!node.bindings.empty()) expect_symbol(",");
    Target target = parse_target(false);
    expect_symbol("=");
    node.bindings.emplace_back(std::move(target), parse_expression());
  }
  // In the reference {% generation %} is a call block, that is a function, which no `break` leaves.
  const int loops = std::exchange(loops_, token.text == "with" ? loops_ : 0);
  node.body = parse_until("end" + token.text);
  loops_ = loops;
  return statement(token.line, std::move(node));
}

std::unique_ptr<Statement> Parser::parse_block() {
  const int line = advance().line;
  const std::string name = expect_identifier();
  if (!blocks_.insert(name).second) fail_here(fmt::format("block '{}' defined twice", name));
  while (skip_name("scoped")) {}
  if (current_.is_name("required")) fail_here("a required block needs a template that extends this one");
  const int loops = std::exchange(loops_, 0);
  Body body = parse_until("endblock");
  loops_ = loops;
  skip_name(name);
  return statement(line, Block{std::move(body)});
}

std::unique_ptr<Statement> Parser::parse_call_block() {
  const int line = advance().line;
  auto definition = std::make_shared<MacroDefinition>();
  definition->name = "caller";
  if (current_.is_symbol("(")) parse_signature(*definition);
  ExpressionPointer call = parse_expression();
  if (!std::holds_alternative<Call>(call->node)) syntax_error(line, "expected a call after 'call'");
  parse_macro_body(*definition, "endcall");
  return statement(line, CallBlock{std::move(call), std::move(definition)});
}

void Parser::parse_print(Body& body) {
  const int line = current_.line;
  for (bool first = true; current_.type != Type::block_end; first = false) {
    if (!first) expect_symbol(",");
    body.push_back(statement(line, Print{parse_expression()}));
  }
}

void Parser::parse_signature(MacroDefinition& definition) {
  expect_symbol("(");
  while (!current_.is_symbol(")")) {
    if (!definition.parameters.empty()) expect_symbol(",");
    std::string name = expect_identifier();
    if (std::count(definition.parameters.begin(), definition.parameters.end(), name))
      fail_here(fmt::format("the parameter '{}' appears twice", name));
    definition.parameters.push_back(std::move(name));
    if (skip_symbol("="))
      definition.defaults.push_back(parse_expression());
    else if (!definition.defaults.empty())
      fail_here("a parameter without default follows one with a default");
  }
  expect_symbol(")");
  const std::size_t first_default = definition.parameters.size() - definition.defaults.size();
  for (std::size_t i = 0; i < first_default; ++i)
    if (definition.parameters[i] == "caller") fail_here("the parameter 'caller' needs a default");
}

// A macro takes `caller`, more positional arguments and more keywords only where its body mentions them.
void Parser::parse_macro_body(MacroDefinition& definition, std::string_view end_word) {
  const bool caller = std::exchange(saw_caller_, false), varargs = std::exchange(saw_varargs_, false);
  const bool kwargs = std::exchange(saw_kwargs_, false);
  const int loops = std::exchange(loops_, 0);
  definition.body = parse_until(end_word);
  definition.uses_caller = saw_caller_, definition.uses_varargs = saw_varargs_, definition.uses_kwargs = saw_kwargs_;
  saw_caller_ |= caller, saw_varargs_ |= varargs, saw_kwargs_ |= kwargs;
  loops_ = loops;
}

Target Parser::parse_target(bool allows_namespace) {
  const Nesting nesting(*this);
  Target first = parse_target_element(allows_namespace);
  if (!current_.is_symbol(",")) return first;
  Target tuple;
  tuple.is_tuple = true;
  tuple.elements.push_back(std::move(first));
  while (skip_symbol(",")) tuple.elements.push_back(parse_target_element(allows_namespace));
  return tuple;
}

Target Parser::parse_target_element(bool allows_namespace) {
  if (skip_symbol("(")) {
    Target target = parse_target(allows_namespace);
    expect_symbol(")");
    return target;
  }
  Target target;
  target.name = expect_identifier();
  constexpr std::string_view constants[] = {"true", "false", "none", "True", "False", "None"};
  if (std::count(std::begin(constants), std::end(constants), target.name))
    fail_here(fmt::format("cannot assign to '{}'", target.name));
  if (allows_namespace && skip_symbol(".")) target.attribute = expect_identifier();
  return target;
}

// One expression, or several with commas between, which are a tuple.
ExpressionPointer Parser::parse_tuple(bool allows_conditional, bool in_parentheses, bool ends_at_recursive) {
  const Nesting nesting(*this);
  const int line = current_.line;
  std::vector<ExpressionPointer> items;
  bool is_tuple = false;
  while (true) {
    if (current_.type == Type::variable_end || current_.type == Type::block_end || current_.is_symbol(")") ||
        (ends_at_recursive && current_.is_name("recursive")))
      break;
    items.push_back(allows_conditional ? parse_expression() : parse_or());
    if (!skip_symbol(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items[0]);
  if (!is_tuple && !in_parentheses) fail_here(fmt::format("expected an expression, got '{}'", describe(current_)));
  return make(line, Sequence{std::move(items), true});
}

ExpressionPointer Parser::parse_conditional() {
  const Nesting nesting(*this);
  const int line = current_.line;
  const std::size_t unknown = unknown_names_.size();
  ExpressionPointer expression = parse_or();
  while (skip_name("if")) {
    ExpressionPointer condition = parse_or(), otherwise;
    if (skip_name("else")) otherwise = parse_conditional();
    expression = make(line, Conditional{std::move(condition), std::move(expression), std::move(otherwise)});
    tolerate_unknown_names(unknown);
  }
  return expression;
}

ExpressionPointer Parser::parse_or() {
  ExpressionPointer left = parse_and();
  while (current_.is_name("or")) {
    const int line = advance().line;
    ExpressionPointer right = parse_and();
    left = make(line, Binary{BinaryOperator::logical_or, std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPointer Parser::parse_and() {
  ExpressionPointer left = parse_not();
  while (current_.is_name("and")) {
    const int line = advance().line;
    ExpressionPointer right = parse_not();
    left = make(line, Binary{BinaryOperator::logical_and, std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPointer Parser::parse_not() {
  const Nesting nesting(*this);
  if (!current_.is_name("not")) return parse_comparison();
  const int line = advance().line;
  return make(line, Unary{UnaryOperator::logical_not, parse_not()});
}

ExpressionPointer Parser::parse_comparison() {
  constexpr std::pair<std::string_view, Comparison> symbols[] = {
      {"==", Comparison::equal},      {"!=", Comparison::not_equal}, {"<", Comparison::less},
      {"<=", Comparison::less_equal}, {">", Comparison::greater},    {">=", Comparison::greater_equal}};
  const int line = current_.line;
  ExpressionPointer first = parse_sum();
  Compare node;
  while (true) {
    const auto* symbol = std::find_if(std::begin(symbols), std::end(symbols),
                                      [&](const auto& s) { return current_.is_symbol(s.first); });
    Comparison comparison = Comparison::in;
    if (symbol != std::end(symbols)) {
      advance();
      comparison = symbol->second;
    } else if (current_.is_name("not") && following_.is_name("in")) {
      advance(), advance();
      comparison = Comparison::not_in;
    } else if (!skip_name("in")) {
      break;
    }
    node.rest.emplace_back(comparison, parse_sum());
  }
  if (node.rest.empty()) return first;
  node.first = std::move(first);
  return make(line, std::move(node));
}

ExpressionPointer Parser::parse_sum() {
  ExpressionPointer left = parse_concatenation();
  while (current_.is_symbol("+") || current_.is_symbol("-")) {
    const Token token = advance();
    ExpressionPointer right = parse_concatenation();
    left = make(token.line, Binary{token.text == "+" ? BinaryOperator::add : BinaryOperator::subtract, std::move(left),
                                   std::move(right)});
  }
  return left;
}

ExpressionPointer Parser::parse_concatenation() {
  const int line = current_.line;
  ExpressionPointer first = parse_product();
  if (!current_.is_symbol("~")) return first;
  Concatenation node;
  node.parts.push_back(std::move(first));
  while (skip_symbol("~")) node.parts.push_back(parse_product());
  return make(line, std::move(node));
}

ExpressionPointer Parser::parse_product() {
  constexpr std::pair<std::string_view, BinaryOperator> symbols[] = {{"*", BinaryOperator::multiply},
                                                                     {"/", BinaryOperator::divide},
                                                                     {"//", BinaryOperator::floor_divide},
                                                                     {"%", BinaryOperator::modulo}};
  ExpressionPointer left = parse_power();
  while (true) {
    const auto* symbol = std::find_if(std::begin(symbols), std::end(symbols),
                                      [&](const auto& s) { return current_.is_symbol(s.first); });
    if (symbol == std::end(symbols)) return left;
    const int line = advance().line;
    ExpressionPointer right = parse_power();
    left = make(line, Binary{symbol->second, std::move(left), std::move(right)});
  }
}

ExpressionPointer Parser::parse_power() {  // from left to right, unlike Python's
  ExpressionPointer left = parse_unary(true);
  while (current_.is_symbol("**")) {
    const int line = advance().line;
    ExpressionPointer right = parse_unary(true);
    left = make(line, Binary{BinaryOperator::power, std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPointer Parser::parse_unary(bool with_filters) {
  const Nesting nesting(*this);
  ExpressionPointer expression;
  if (current_.is_symbol("-") || current_.is_symbol("+")) {
    const Token token = advance();
    expression =
        make(token.line, Unary{token.text == "-" ? UnaryOperator::minus : UnaryOperator::plus, parse_unary(false)});
  } else {
    expression = parse_primary();
  }
  expression = parse_postfix(std::move(expression));
  return with_filters ? parse_filters_and_tests(std::move(expression)) : std::move(expression);
}

ExpressionPointer Parser::parse_primary() {
  const int line = current_.line;
  switch (current_.type) {
    case Type::name: return parse_name();
    case Type::string: {  // neighbours are one
      std::string text = advance().text;
      while (current_.type == Type::string) text += advance().text;
      return make(line, Constant{std::move(text)});
    }
    case Type::integer: return make(line, Constant{advance().integer});
    case Type::real: return make(line, Constant{advance().real});
    default: break;
  }
  if (current_.is_symbol("[")) return parse_list();
  if (current_.is_symbol("{")) return parse_dict();
  if (skip_symbol("(")) {
    ExpressionPointer expression = parse_tuple(true, true);
    expect_symbol(")");
    return expression;
  }
  fail_here(fmt::format("expected an expression, got '{}'", describe(current_)));
}

ExpressionPointer Parser::parse_name() {
  const Token token = advance();
  const std::string& name = token.text;
  if (name == "true" || name == "True") return make(token.line, Constant{true});
  if (name == "false" || name == "False") return make(token.line, Constant{false});
  if (name == "none" || name == "None") return make(token.line, Constant{});
  saw_caller_ |= name == "caller", saw_varargs_ |= name == "varargs", saw_kwargs_ |= name == "kwargs";
  return make(token.line, Name{name});
}

ExpressionPointer Parser::parse_list() {
  const int line = advance().line;
  Sequence node{{}, false};
  while (!current_.is_symbol("]")) {
    if (!node.items.empty()) {
      expect_symbol(",");
      if (current_.is_symbol("]")) break;
    }
    node.items.push_back(parse_expression());
  }
  expect_symbol("]");
  return make(line, std::move(node));
}

ExpressionPointer Parser::parse_dict() {
  const int line = advance().line;
  Dict node;
  while (!current_.is_symbol("}")) {
    if (!node.entries.empty()) {
      expect_symbol(",");
      if (current_.is_symbol("}")) break;
    }
    ExpressionPointer key = parse_expression();
    expect_symbol(":");
    node.entries.emplace_back(std::move(key), parse_expression());
  }
  expect_symbol("}");
  return make(line, std::move(node));
}

ExpressionPointer Parser::parse_postfix(ExpressionPointer expression) {
  while (true) {
    if (current_.is_symbol("."))
      expression = parse_attribute(std::move(expression));
    else if (current_.is_symbol("["))
      expression = parse_subscript(std::move(expression));
    else if (current_.is_symbol("("))
      expression = parse_call(std::move(expression));
    else
      return expression;
  }
}

ExpressionPointer Parser::parse_filters_and_tests(ExpressionPointer expression) {
  while (true) {
    if (skip_symbol("|"))
      expression = parse_filter(std::move(expression));
    else if (skip_name("is"))
      expression = parse_test(std::move(expression));
    else if (current_.is_symbol("("))
      expression = parse_call(std::move(expression));
    else
      return expression;
  }
}

ExpressionPointer Parser::parse_attribute(ExpressionPointer object) {
  const int line = advance().line;
  if (current_.type == Type::integer) {  // x.0 is x[0]
    ExpressionPointer index = make(line, Constant{advance().integer});
    return make(line, Subscript{std::move(object), std::move(index)});
  }
  std::string name = expect_identifier();
  return make(line, Attribute{std::move(object), std::move(name)});
}

ExpressionPointer Parser::parse_subscript(ExpressionPointer object) {
  const int line = advance().line;
  ExpressionPointer start, stop, step;
  if (!current_.is_symbol(":")) {
    start = parse_expression();
    if (current_.is_symbol(",")) {  // x[a, b] is x[(a, b)]
      Sequence indices{{}, true};
      indices.items.push_back(std::move(start));
      while (skip_symbol(",")) indices.items.push_back(parse_expression());
      start = make(line, std::move(indices));
    }
    if (skip_symbol("]")) return make(line, Subscript{std::move(object), std::move(start)});
  }
  expect_symbol(":");
  if (!current_.is_symbol(":") && !current_.is_symbol("]")) stop = parse_expression();
  if (skip_symbol(":") && !current_.is_symbol("]")) step = parse_expression();
  expect_symbol("]");
  return make(line, Slice{std::move(object), std::move(start), std::move(stop), std::move(step)});
}

ExpressionPointer Parser::parse_filter_chain(ExpressionPointer value) {
  while (skip_symbol("|")) value = parse_filter(std::move(value));
  return value;
}

ExpressionPointer Parser::parse_filter(ExpressionPointer value) {
  const int line = current_.line;
  std::string name = expect_identifier();
  while (skip_symbol(".")) name += "." + expect_identifier();
  note_name(find_filter(name) != nullptr, "filter", name, line);
  CallArguments arguments;
  if (current_.is_symbol("(")) arguments = parse_arguments();
  return make(line, Filter{std::move(value), std::move(name), std::move(arguments)});
}

ExpressionPointer Parser::parse_test(ExpressionPointer value) {
  const int line = current_.line;
  const bool is_negated = skip_name("not");
  std::string name = expect_identifier();
  while (skip_symbol(".")) name += "." + expect_identifier();
  note_name(find_test(name) != nullptr, "test", name, line);
  CallArguments arguments;
  if (current_.is_symbol("(")) {
    arguments = parse_arguments();
  } else if (current_.type == Type::string || current_.type == Type::integer || current_.type == Type::real ||
             current_.is_symbol("[") || current_.is_symbol("{") ||
             (current_.type == Type::name && !current_.is_name("else") && !current_.is_name("or") &&
              !current_.is_name("and"))) {
    if (current_.is_name("is")) fail_here("tests cannot be chained with 'is'");
    arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  ExpressionPointer test = make(line, Test{std::move(value), std::move(name), std::move(arguments)});
  return is_negated ? make(line, Unary{UnaryOperator::logical_not, std::move(test)}) : std::move(test);
}

ExpressionPointer Parser::parse_call(ExpressionPointer callee) {
  const int line = current_.line;
  CallArguments arguments = parse_arguments();
  return make(line, Call{std::move(callee), std::move(arguments)});
}

CallArguments Parser::parse_arguments() {
  CallArguments arguments;
  expect_symbol("(");
  for (bool first = true; !current_.is_symbol(")"); first = false) {
    if (!first) {
      expect_symbol(",");
      if (current_.is_symbol(")")) break;
    }
    const bool is_keyword = current_.type == Type::name && following_.is_symbol("=");
    const bool ends_with_star = arguments.more_positional || arguments.more_keywords;
    bool in_order = !arguments.more_keywords;
    if (skip_symbol("*")) {
      in_order = !ends_with_star;
      arguments.more_positional = parse_expression();
    } else if (skip_symbol("**")) {
      arguments.more_keywords = parse_expression();
    } else if (is_keyword) {
      std::string name = advance().text;
      advance();
      if (std::any_of(arguments.keywords.begin(), arguments.keywords.end(), [&](auto& k) { return k.first == name; }))
        fail_here(fmt::format("the keyword argument '{}' is repeated", name));
      arguments.keywords.emplace_back(std::move(name), parse_expression());
    } else {
      in_order = !ends_with_star && arguments.keywords.empty();
      arguments.positional.push_back(parse_expression());
    }
    if (!in_order) fail_here("the arguments of a call are in a wrong order");
  }
  expect_symbol(")");
  return arguments;
}

}  // namespace

ast::Body parse_template(std::string_view source) { return Parser(source).parse(); }

}  // namespace lathe::jinja
