// The parser of chat templates: statements first, then expressions from the loosest binding to the tightest.
#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <set>

#include "text/chat_template/ast.h"
#include "text/chat_template/builtins.h"
#include "text/chat_template/lexer.h"
#include "text/chat_template/operators.h"

namespace lathe::jinja {
namespace {

using namespace ast;
using Type = Token::Type;

// --- what operations compute

using Operands = std::vector<Value>;
using Apply = Value (*)(Operands&);

template <Value (*compute)(const Value&)>
Value unary(Operands& operands) {
  return compute(operands[0]);
}

template <Value (*compute)(const Value&, const Value&)>
Value binary(Operands& operands) {
  return compute(operands[0], operands[1]);
}

Value logical_not(const Value& value) { return !is_true(value); }
bool is_in(const Value& item, const Value& container) { return contains(container, item); }
bool is_not_in(const Value& item, const Value& container) { return !contains(container, item); }
Value slice_of(Operands& operands) { return get_slice(operands[0], operands[1], operands[2], operands[3]); }
Value list_of(Operands& operands) { return Value::list(std::move(operands)); }
Value tuple_of(Operands& operands) { return Value::tuple(std::move(operands)); }

Value dict_of(Operands& operands) {  // key, value, key, value ...
  auto dict = std::make_shared<DictObject>();
  for (std::size_t i = 0; i < operands.size(); i += 2) dict->set(std::move(operands[i]), std::move(operands[i + 1]));
  return dict;
}

Value concatenation(Operands& operands) {
  TextBuilder text;
  for (const Value& operand : operands) append_text(text, operand);
  return text.take();
}

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
    if (skip_symbol(symbol)) return;
    const std::string name = describe({Type::symbol, 0, std::string(symbol), 0, 0});
    fail_here(fmt::format("expected {}, got '{}'", name == symbol ? "'" + name + "'" : name, describe(current_)));
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) fail_here(fmt::format("expected '{}', got '{}'", name, describe(current_)));
  }
  std::string expect_identifier() {
    if (current_.type != Type::name) fail_here(fmt::format("expected a name, got '{}'", describe(current_)));
    return advance().text;
  }
  [[noreturn]] void fail_here(const std::string& message) const { syntax_error(current_.line, message); }

  // --- bounds
  Nested nested() {
    return Nested(nesting_, maximum_parse_depth,
                  [this] { fail_here(fmt::format("nested more than {} deep", maximum_parse_depth)); });
  }

  template <class Node, class... Parts>
  ExpressionPointer make(int line, Node node, Parts... parts) {
    std::vector<ExpressionPointer> all;
    (all.push_back(std::move(parts)), ...);
    return make_of(line, std::move(node), std::move(all));
  }

  template <class Node>
  ExpressionPointer make_of(int line, Node node, std::vector<ExpressionPointer> parts) {
    int depth = 1;
    for (const auto& part : parts) depth = std::max(depth, part ? part->depth + 1 : 0);
    // A chain such as 1 + 1 + 1 ... is a deep tree although no bracket is nested.
    if (depth > maximum_parse_depth)
      syntax_error(line, fmt::format("an expression is more than {} operations deep", maximum_parse_depth));
    return std::make_unique<Expression>(Expression{line, depth, std::move(node), std::move(parts)});
  }

  template <class Node>
  static std::unique_ptr<Statement> statement(int line, Node node) {
    return std::make_unique<Statement>(Statement{line, std::move(node)});
  }

  // --- filters and tests that do not exist, tolerated where an `if` stands between them and their use
  void require_known_names(std::size_t from) const {
    if (unknown_names_.size() > from) syntax_error(unknown_names_[from].first, unknown_names_[from].second);
  }
  void tolerate_unknown_names(std::size_t from) { unknown_names_.resize(std::min(from, unknown_names_.size())); }

  // --- statements
  // Up to a tag that begins with one of `end_words`, whose name is then the current token; or to the template's end.
  Body parse_body(Words end_words) {
    const Nested nesting = nested();
    Body body;
    while (true) {
      const int line = current_.line;
      if (current_.type == Type::data) {
        body.push_back(statement(line, Text{advance().text}));
      } else if (current_.is_symbol("{{")) {
        advance();
        ExpressionPointer value = parse_tuple();
        expect_symbol("}}");
        body.push_back(statement(line, Print{std::move(value)}));
      } else if (current_.is_symbol("{%")) {
        advance();
        if (std::any_of(end_words.begin(), end_words.end(), [&](auto word) { return current_.is_name(word); }))
          return body;
        if (skip_name("print"))
          parse_print(body);
        else
          body.push_back(parse_statement());
        expect_symbol("%}");
      } else {
        if (end_words.size() != 0)
          fail_here(fmt::format("unexpected end of template, expected '{}'", *(end_words.end() - 1)));
        return body;
      }
    }
  }

  // A body behind its opening tag, whose end is still to come.
  Body parse_inner(Words end_words) {
    skip_symbol(":");
    expect_symbol("%}");
    return parse_body(end_words);
  }

  Body parse_until(std::string_view end_word) {
    Body body = parse_inner({end_word});
    advance();
    return body;
  }

  std::unique_ptr<Statement> parse_statement() {
    const Nested nesting = nested();
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
    if (word == "with" || word == "generation" || word == "block") {
      result = parse_scoped();
    } else if (word == "call") {
      result = parse_call_block();
    } else if (word == "filter") {
      advance();
      ExpressionPointer filter = parse_filter_chain(parse_filter(nullptr));
      Body body = parse_until("endfilter");
      result = statement(line, Capture{std::nullopt, std::move(filter), std::move(body)});
    } else if (word == "macro") {
      advance();
      auto definition = std::make_shared<MacroDefinition>();
      definition->name = expect_identifier();
      parse_signature(*definition);
      parse_macro_body(*definition, "endmacro");
      result = statement(line, ast::Macro{std::move(definition)});
    } else if (word == "autoescape" && following_.is_name("false")) {  // nothing is escaped in any case
      advance(), expect_name("false");
      result = statement(line, Scoped{{}, parse_until("endautoescape")});
    } else if (word == "extends" || word == "include" || word == "import" || word == "from") {
      fail_here(fmt::format("'{}' needs another template, and a chat template has none", word));
    } else {
      fail_here(fmt::format("unknown tag '{}'", word));
    }
    require_known_names(unknown);
    return result;
  }

  std::unique_ptr<Statement> parse_if() {
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

  std::unique_ptr<Statement> parse_for() {
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

  std::unique_ptr<Statement> parse_loop_control() {
    if (loops_ == 0) fail_here(fmt::format("'{}' outside of a loop", current_.text));
    const Token token = advance();
    return statement(token.line, LoopControl{token.text == "break"});
  }

  std::unique_ptr<Statement> parse_set() {
    const int line = advance().line;
    Target target = parse_target(true);
    if (skip_symbol("=")) return statement(line, Set{std::move(target), parse_tuple()});
    const std::size_t unknown = unknown_names_.size();
    ExpressionPointer filter;
    if (skip_symbol("|")) filter = parse_filter_chain(parse_filter(nullptr));
    Body body = parse_until("endset");
    require_known_names(unknown);
    return statement(line, Capture{std::move(target), std::move(filter), std::move(body)});
  }

  std::unique_ptr<Statement> parse_scoped() {
    const Token token = advance();
    Scoped node{{}, {}, token.text == "block"};
    while (token.text == "with" && !current_.is_symbol("%}")) {
      if (!node.bindings.empty()) expect_symbol(",");
      Target target = parse_target(false);
      expect_symbol("=");
      node.bindings.emplace_back(std::move(target), parse_expression());
    }
    const std::string name = node.is_block ? expect_identifier() : "";
    if (node.is_block && !blocks_.insert(name).second) fail_here(fmt::format("block '{}' defined twice", name));
    while (node.is_block && skip_name("scoped")) {}
    if (node.is_block && current_.is_name("required"))
      fail_here("a required block needs a template that extends this one");
    // In the reference {% block %} is a function and {% generation %} a call block: no `break` leaves them.
    const Restored loops(loops_, token.text == "with" ? loops_ : 0);
    node.body = parse_until("end" + token.text);
    if (node.is_block) skip_name(name);
    return statement(token.line, std::move(node));
  }

  std::unique_ptr<Statement> parse_call_block() {
    const int line = advance().line;
    auto definition = std::make_shared<MacroDefinition>();
    definition->name = "caller";
    if (current_.is_symbol("(")) parse_signature(*definition);
    ExpressionPointer call = parse_expression();
    if (!std::holds_alternative<Call>(call->node)) syntax_error(line, "expected a call after 'call'");
    parse_macro_body(*definition, "endcall");
    return statement(line, CallBlock{std::move(call), std::move(definition)});
  }

  void parse_print(Body& body) {
    const int line = current_.line;
    for (bool first = true; !current_.is_symbol("%}"); first = false) {
      if (!first) expect_symbol(",");
      body.push_back(statement(line, Print{parse_expression()}));
    }
  }

  void parse_signature(MacroDefinition& definition) {
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
  void parse_macro_body(MacroDefinition& definition, std::string_view end_word) {
    const Restored loops(loops_, 0);
    const Mentions outer = std::exchange(mentions_, {});
    definition.body = parse_until(end_word);
    definition.mentions = mentions_;
    for (const auto part : {&Mentions::caller, &Mentions::varargs, &Mentions::kwargs}) mentions_.*part |= outer.*part;
  }

  Target parse_target(bool allows_namespace) {
    const Nested nesting = nested();
    Target first = parse_target_element(allows_namespace);
    if (!current_.is_symbol(",")) return first;
    Target tuple;
    tuple.is_tuple = true;
    tuple.elements.push_back(std::move(first));
    while (skip_symbol(",")) tuple.elements.push_back(parse_target_element(allows_namespace));
    return tuple;
  }

  Target parse_target_element(bool allows_namespace) {
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
  ExpressionPointer parse_tuple(bool allows_conditional = true, bool in_parentheses = false,
                                bool ends_at_recursive = false) {
    const Nested nesting = nested();
    const int line = current_.line;
    std::vector<ExpressionPointer> items;
    bool is_tuple = false;
    while (true) {
      if (current_.is_symbol("}}") || current_.is_symbol("%}") || current_.is_symbol(")") ||
          (ends_at_recursive && current_.is_name("recursive")))
        break;
      items.push_back(allows_conditional ? parse_expression() : parse_or());
      if (!skip_symbol(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return std::move(items[0]);
    if (!is_tuple && !in_parentheses) fail_here(fmt::format("expected an expression, got '{}'", describe(current_)));
    return make_of(line, Operation{tuple_of}, std::move(items));
  }

  ExpressionPointer parse_conditional() {
    const Nested nesting = nested();
    const int line = current_.line;
    const std::size_t unknown = unknown_names_.size();
    ExpressionPointer expression = parse_or();
    while (skip_name("if")) {
      ExpressionPointer condition = parse_or(), otherwise;
      if (skip_name("else")) otherwise = parse_conditional();
      expression = make(line, Conditional{}, std::move(condition), std::move(expression), std::move(otherwise));
      tolerate_unknown_names(unknown);
    }
    return expression;
  }

  ExpressionPointer parse_expression() { return parse_conditional(); }
  ExpressionPointer parse_or() { return parse_logical("or", &Parser::parse_and); }
  ExpressionPointer parse_and() { return parse_logical("and", &Parser::parse_not); }

  using ParseOperand = ExpressionPointer (Parser::*)();

  ExpressionPointer parse_logical(std::string_view word, ParseOperand parse_operand) {
    ExpressionPointer left = (this->*parse_operand)();
    while (current_.is_name(word)) {
      const int line = advance().line;
      ExpressionPointer right = (this->*parse_operand)();
      left = make(line, Logical{word == "and"}, std::move(left), std::move(right));
    }
    return left;
  }

  ExpressionPointer parse_not() {
    const Nested nesting = nested();
    if (!current_.is_name("not")) return parse_comparison();
    const int line = advance().line;
    return make(line, Operation{unary<logical_not>}, parse_not());
  }

  ExpressionPointer parse_comparison() {
    constexpr std::pair<std::string_view, bool (*)(const Value&, const Value&)> symbols[] = {
        {"==", equal}, {"!=", not_equal}, {"<", less}, {"<=", less_equal}, {">", greater}, {">=", greater_equal}};
    const int line = current_.line;
    std::vector<ExpressionPointer> operands;
    operands.push_back(parse_sum());
    Compare node;
    while (true) {
      const auto* symbol = std::find_if(std::begin(symbols), std::end(symbols),
                                        [&](const auto& s) { return current_.is_symbol(s.first); });
      if (symbol != std::end(symbols)) {
        advance();
        node.relations.push_back(symbol->second);
      } else if (current_.is_name("not") && following_.is_name("in")) {
        advance(), advance();
        node.relations.push_back(is_not_in);
      } else if (skip_name("in")) {
        node.relations.push_back(is_in);
      } else {
        return node.relations.empty() ? std::move(operands[0]) : make_of(line, std::move(node), std::move(operands));
      }
      operands.push_back(parse_sum());
    }
  }

  ExpressionPointer parse_sum() {
    return parse_infix({{"+", binary<add>}, {"-", binary<subtract>}}, &Parser::parse_concatenation);
  }

  ExpressionPointer parse_product() {
    return parse_infix(
        {{"*", binary<multiply>}, {"/", binary<divide>}, {"//", binary<floor_divide>}, {"%", binary<modulo>}},
        &Parser::parse_power);
  }

  ExpressionPointer parse_power() { return parse_infix({{"**", binary<power>}}, &Parser::parse_operand); }
  ExpressionPointer parse_operand() { return parse_unary(true); }

  // Operators that bind alike, from left to right (`**` too, unlike Python's).
  ExpressionPointer parse_infix(std::initializer_list<std::pair<std::string_view, Apply>> operators,
                                ParseOperand parse_operand) {
    ExpressionPointer left = (this->*parse_operand)();
    while (true) {
      const auto* found =
          std::find_if(operators.begin(), operators.end(), [&](const auto& o) { return current_.is_symbol(o.first); });
      if (found == operators.end()) return left;
      const int line = advance().line;
      ExpressionPointer right = (this->*parse_operand)();
      left = make(line, Operation{found->second}, std::move(left), std::move(right));
    }
  }

  ExpressionPointer parse_concatenation() {
    const int line = current_.line;
    std::vector<ExpressionPointer> parts;
    do parts.push_back(parse_product());
    while (skip_symbol("~"));
    return parts.size() == 1 ? std::move(parts[0]) : make_of(line, Operation{concatenation}, std::move(parts));
  }

  ExpressionPointer parse_unary(bool with_filters) {
    const Nested nesting = nested();
    ExpressionPointer expression;
    if (current_.is_symbol("-") || current_.is_symbol("+")) {
      const Token token = advance();
      expression = make(token.line, Operation{token.text == "-" ? unary<negate> : unary<positive>}, parse_unary(false));
    } else {
      expression = parse_primary();
    }
    expression = parse_postfix(std::move(expression));
    return with_filters ? parse_filters_and_tests(std::move(expression)) : std::move(expression);
  }

  ExpressionPointer parse_primary() {
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

  ExpressionPointer parse_name() {
    const Token token = advance();
    const std::string& name = token.text;
    if (name == "true" || name == "True") return make(token.line, Constant{true});
    if (name == "false" || name == "False") return make(token.line, Constant{false});
    if (name == "none" || name == "None") return make(token.line, Constant{});
    if (name == "caller") mentions_.caller = true;
    if (name == "varargs") mentions_.varargs = true;
    if (name == "kwargs") mentions_.kwargs = true;
    return make(token.line, Name{name});
  }

  // What stands between commas, of which one may follow the last; `close` is the symbol behind it.
  template <class ParseItem>
  void parse_items(std::string_view close, ParseItem&& parse_item) {
    for (bool first = true; !current_.is_symbol(close); first = false) {
      if (!first) expect_symbol(",");
      if (!first && current_.is_symbol(close)) break;
      parse_item();
    }
    expect_symbol(close);
  }

  ExpressionPointer parse_list() {
    std::vector<ExpressionPointer> items;
    const int line = advance().line;
    parse_items("]", [&] { items.push_back(parse_expression()); });
    return make_of(line, Operation{list_of}, std::move(items));
  }

  ExpressionPointer parse_dict() {
    std::vector<ExpressionPointer> entries;
    const int line = advance().line;
    parse_items("}", [&] {
      entries.push_back(parse_expression());
      expect_symbol(":");
      entries.push_back(parse_expression());
    });
    return make_of(line, Operation{dict_of}, std::move(entries));
  }

  ExpressionPointer parse_postfix(ExpressionPointer expression) {
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

  ExpressionPointer parse_filters_and_tests(ExpressionPointer expression) {
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

  ExpressionPointer parse_attribute(ExpressionPointer object) {
    const int line = advance().line;
    if (current_.type == Type::integer) {  // x.0 is x[0]
      ExpressionPointer index = make(line, Constant{advance().integer});
      return make(line, Operation{binary<get_item>}, std::move(object), std::move(index));
    }
    std::string name = expect_identifier();
    return make(line, Attribute{std::move(name)}, std::move(object));
  }

  ExpressionPointer parse_subscript(ExpressionPointer object) {
    const int line = advance().line;
    ExpressionPointer start, stop, step;
    if (!current_.is_symbol(":")) {
      start = parse_expression();
      if (current_.is_symbol(",")) {  // x[a, b] is x[(a, b)]
        std::vector<ExpressionPointer> indices;
        indices.push_back(std::move(start));
        while (skip_symbol(",")) indices.push_back(parse_expression());
        start = make_of(line, Operation{tuple_of}, std::move(indices));
      }
      if (skip_symbol("]")) return make(line, Operation{binary<get_item>}, std::move(object), std::move(start));
    }
    expect_symbol(":");
    if (!current_.is_symbol(":") && !current_.is_symbol("]")) stop = parse_expression();
    if (skip_symbol(":") && !current_.is_symbol("]")) step = parse_expression();
    expect_symbol("]");
    return make(line, Operation{slice_of}, std::move(object), std::move(start), std::move(stop), std::move(step));
  }

  ExpressionPointer parse_filter_chain(ExpressionPointer value) {
    while (skip_symbol("|")) value = parse_filter(std::move(value));
    return value;
  }

  // The name of a filter or test, which may have dots.
  std::string parse_known_name(const Builtin* (*find)(std::string_view), const char* what) {
    const int line = current_.line;
    std::string name = expect_identifier();
    while (skip_symbol(".")) name += "." + expect_identifier();
    if (!find(name)) unknown_names_.push_back({line, fmt::format("no {} named '{}'", what, name)});
    return name;
  }

  ExpressionPointer parse_filter(ExpressionPointer value) {
    const int line = current_.line;
    std::vector<ExpressionPointer> parts;
    parts.push_back(std::move(value));
    Filter node{parse_known_name(find_filter, "filter"), {}};
    if (current_.is_symbol("(")) node.arguments = parse_arguments(parts);
    return make_of(line, std::move(node), std::move(parts));
  }

  ExpressionPointer parse_test(ExpressionPointer value) {
    const int line = current_.line;
    const bool is_negated = skip_name("not");
    std::vector<ExpressionPointer> parts;
    parts.push_back(std::move(value));
    Test node{parse_known_name(find_test, "test"), {}};
    if (current_.is_symbol("(")) {
      node.arguments = parse_arguments(parts);
    } else if (current_.type == Type::string || current_.type == Type::integer || current_.type == Type::real ||
               current_.is_symbol("[") || current_.is_symbol("{") ||
               (current_.type == Type::name && !current_.is_name("else") && !current_.is_name("or") &&
                !current_.is_name("and"))) {
      if (current_.is_name("is")) fail_here("tests cannot be chained with 'is'");
      parts.push_back(parse_postfix(parse_primary()));
      node.arguments.positional = 1;
    }
    ExpressionPointer test = make_of(line, std::move(node), std::move(parts));
    return is_negated ? make(line, Operation{unary<logical_not>}, std::move(test)) : std::move(test);
  }

  ExpressionPointer parse_call(ExpressionPointer callee) {
    const int line = current_.line;
    std::vector<ExpressionPointer> parts;
    parts.push_back(std::move(callee));
    Call node{parse_arguments(parts)};
    return make_of(line, std::move(node), std::move(parts));
  }

  // The arguments of a call, which become further parts of it.
  ArgumentList parse_arguments(std::vector<ExpressionPointer>& parts) {
    ArgumentList list;
    ExpressionPointer more_positional, more_keywords;
    std::vector<ExpressionPointer> with_keywords;
    expect_symbol("(");
    parse_items(")", [&] {
      const bool is_keyword = current_.type == Type::name && following_.is_symbol("=");
      bool in_order = !more_keywords;
      if (skip_symbol("*")) {
        in_order = in_order && !more_positional;
        more_positional = parse_expression();
      } else if (skip_symbol("**")) {
        more_keywords = parse_expression();
      } else if (is_keyword) {
        const std::string& name = list.keywords.emplace_back(advance().text);
        if (std::count(list.keywords.begin(), list.keywords.end(), name) > 1)
          fail_here(fmt::format("the keyword argument '{}' is repeated", name));
        advance();
        with_keywords.push_back(parse_expression());
      } else {
        in_order = in_order && !more_positional && list.keywords.empty();
        parts.push_back(parse_expression());
        ++list.positional;
      }
      if (!in_order) fail_here("the arguments of a call are in a wrong order");
    });
    std::move(with_keywords.begin(), with_keywords.end(), std::back_inserter(parts));
    list.has_more_positional = more_positional != nullptr, list.has_more_keywords = more_keywords != nullptr;
    if (more_positional) parts.push_back(std::move(more_positional));
    if (more_keywords) parts.push_back(std::move(more_keywords));
    return list;
  }

  Lexer lexer_;
  Token current_, following_;
  int nesting_ = 0;
  int loops_ = 0;  // around the current statement, within the same macro
  Mentions mentions_;
  std::vector<std::pair<int, std::string>> unknown_names_;
  std::set<std::string> blocks_;
};

}  // namespace

ast::Body parse_template(std::string_view source) { return Parser(source).parse(); }

}  // namespace lathe::jinja
