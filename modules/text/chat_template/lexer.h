// Template text -> tokens, one at a time.
//
// As Jinja2 3.1 with trim_blocks and lstrip_blocks: the newline after a block or comment goes, so does white space
// between the start of a line and a block or comment; `-` at a tag's edge strips all white space there, `+` keeps it.
// One newline at the very end of the template is dropped. Reference: jinja2/lexer.py and the template designer
// documentation, "Whitespace Control".
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/errors.h"

namespace lathe::jinja {

// The template is no template; the message has the line.
[[noreturn]] void syntax_error(int line, const std::string& message);

struct Token {
  enum class Type { data, name, string, integer, real, symbol, end };
  Type type = Type::end;
  int line = 1;
  std::string
      text;  // of data, name and symbol (the braces of tags, too) as written, of a string without quotes and escapes
  std::int64_t integer = 0;
  double real = 0;

  bool is_symbol(std::string_view symbol) const { return type == Type::symbol && text == symbol; }
  bool is_name(std::string_view name) const { return type == Type::name && text == name; }
};

// How a syntax error calls it: "end of statement block", "name 'x'".
std::string describe(const Token& token);

class Lexer {
 public:
  explicit Lexer(std::string_view source);  // throws Error where it is no UTF-8 or too long
  Token next();                             // after the last one, Type::end for ever

 private:
  struct Opening;  // a tag's beginning in the data

  void read_data();
  Opening find_opening() const;
  void skip_comment();
  void read_raw();
  bool try_tag_end();
  Token read_in_tag();
  Token read_number();
  Token read_string();
  Token read_symbol();

  char at(std::size_t position) const { return position < source_.size() ? source_[position] : '\0'; }
  bool starts(std::size_t position, std::string_view text) const {
    return position <= source_.size() && std::string_view(source_).substr(position, text.size()) == text;
  }
  std::size_t after_space(std::size_t position) const;
  std::size_t after_close(std::size_t position, std::string_view close, bool trim) const;
  void push_data(std::size_t begin, std::size_t end, char sign, bool keeps_space);
  void move_to(std::size_t position);  // counts lines
  Token make(Token::Type type, std::string text = {}) const;

  std::string source_;
  std::size_t position_ = 0;
  int line_ = 1;
  std::string_view close_;      // what ends the current tag; empty outside of tags
  std::vector<char> brackets_;  // the closing ones that are due: inside them `}}` is no end of a tag
  std::deque<Token> pending_;
};

}  // namespace lathe::jinja
