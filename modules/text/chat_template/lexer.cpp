// The lexer of chat templates; see the header.
#include "text/chat_template/lexer.h"

#include <charconv>
#include <optional>

#include "text/chat_template/budget.h"
#include "text/chat_template/unicode.h"

namespace lathe::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "\r\n" and "\r" become "\n", and one newline at the end goes.
std::string normalize_newlines(std::string_view source) {
  std::string result;
  result.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      result += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      result += source[i];
    }
  }
  if (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

int hexadecimal(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// One escape of a string literal; `position` is behind the backslash and moves past the escape.
void append_escape(std::string& text, std::string_view body, std::size_t& position, int line) {
  const char c = body[position++];
  constexpr std::string_view letters = "abfnrtv\\'\"", meanings = "\a\b\f\n\r\t\v\\'\"";
  if (const std::size_t i = letters.find(c); i != letters.npos) {
    text += meanings[i];
  } else if (c >= '0' && c <= '7') {
    char32_t code_point = static_cast<char32_t>(c - '0');
    for (int i = 0; i < 2 && position < body.size() && body[position] >= '0' && body[position] <= '7'; ++i)
      code_point = code_point * 8 + static_cast<char32_t>(body[position++] - '0');
    append_code_point(text, code_point);
  } else if (c == 'x' || c == 'u' || c == 'U') {
    char32_t code_point = 0;
    for (int i = c == 'x' ? 2 : c == 'u' ? 4 : 8; i > 0; --i, ++position) {
      const int digit = position < body.size() ? hexadecimal(body[position]) : -1;
      if (digit < 0) syntax_error(line, fmt::format("truncated \\{} escape in a string", c));
      code_point = code_point * 16 + static_cast<char32_t>(digit);
    }
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000))
      syntax_error(line, fmt::format("the escape \\{} in a string is no character", c));
    append_code_point(text, code_point);
  } else if (c == 'N') {
    syntax_error(line, "the escape \\N{...} in a string is not supported; write the character or \\u");
  } else if (c != '\n') {  // an escaped newline is nothing, and an unknown escape stands for itself
    text += '\\';
    text += c;
  }
}

std::string unescape(std::string_view body, int line) {
  std::string text;
  for (std::size_t position = 0; position < body.size();) {
    if (body[position] == '\\' && position + 1 < body.size())
      append_escape(text, body, ++position, line);
    else
      text += body[position++];
  }
  return text;
}

}  // namespace

void syntax_error(int line, const std::string& message) { throw Error(fmt::format("line {}: {}", line, message)); }

std::string describe(const Token& token) {
  switch (token.type) {
    case Token::Type::data: return "template text";
    case Token::Type::variable_begin: return "begin of print statement";
    case Token::Type::variable_end: return "end of print statement";
    case Token::Type::block_begin: return "begin of statement block";
    case Token::Type::block_end: return "end of statement block";
    case Token::Type::name: return token.text;
    case Token::Type::string: return "string";
    case Token::Type::integer: return "integer";
    case Token::Type::real: return "float";
    case Token::Type::symbol: return token.text;
    case Token::Type::end: return "end of template";
  }
  return {};
}

// The first tag after the current position: its kind ('{', '%', '#', or 'r' for raw), where it begins, the sign on its
// edge ('-', '+' or none), and where its inside begins.
struct Lexer::Opening {
  char kind;
  std::size_t begin;
  char sign;
  std::size_t inside;
};

Lexer::Lexer(std::string_view source) {
  if (source.size() > maximum_template_bytes)
    throw Error(fmt::format("has {} bytes, a template may have {}", source.size(), maximum_template_bytes));
  if (const std::size_t valid = valid_utf8_prefix(source); valid != source.size())
    throw Error(fmt::format("is not UTF-8 at byte {}", valid));
  source_ = normalize_newlines(source);
}

Token Lexer::next() {
  while (pending_.empty()) {
    if (mode_ == Mode::data) {
      if (position_ >= source_.size()) return make(Token::Type::end);
      read_data();
    } else if (!try_tag_end()) {
      move_to(after_space(position_));
      if (try_tag_end()) continue;
      if (position_ >= source_.size()) return make(Token::Type::end);
      return read_in_tag();
    }
  }
  Token token = std::move(pending_.front());
  pending_.pop_front();
  return token;
}

Token Lexer::make(Token::Type type, std::string text) const {
  Token token;
  token.type = type;
  token.line = line_;
  token.text = std::move(text);
  return token;
}

void Lexer::move_to(std::size_t position) {
  for (; position_ < position; ++position_) line_ += source_[position_] == '\n';
}

std::size_t Lexer::after_space(std::size_t position) const {
  while (position < source_.size()) {
    std::size_t following = position;
    if (!is_space(next_code_point(source_, following))) break;
    position = following;
  }
  return position;
}

// Where the text continues behind a closing tag such as "%}", "-%}" or "+%}" at `position`; 0 where there is none.
std::size_t Lexer::after_close(std::size_t position, std::string_view close, bool trim) const {
  if (starts(position, close)) {
    position += close.size();
    return trim && at(position) == '\n' ? position + 1 : position;
  }
  if (at(position) == '-' && starts(position + 1, close)) return after_space(position + 1 + close.size());
  if (trim && at(position) == '+' && starts(position + 1, close)) return position + 1 + close.size();
  return 0;
}

Lexer::Opening Lexer::find_opening() const {
  for (std::size_t begin = position_; (begin = source_.find('{', begin)) != std::string::npos; ++begin) {
    const char kind = at(begin + 1);
    if (kind != '{' && kind != '%' && kind != '#') continue;
    const char sign = at(begin + 2) == '-' || at(begin + 2) == '+' ? at(begin + 2) : '\0';
    const std::size_t inside = begin + (sign ? 3 : 2);
    if (kind == '%') {  // {% raw %}
      const std::size_t word = after_space(inside);
      const std::size_t close = starts(word, "raw") ? after_close(after_space(word + 3), "%}", false) : 0;
      if (close) return {'r', begin, sign, close};
    }
    return {kind, begin, sign, inside};
  }
  return {'\0', source_.size(), '\0', source_.size()};
}

// The text between two tags, without what the sign on the second or lstrip_blocks removes.
std::string Lexer::stripped_data(std::size_t begin, std::size_t end, char sign, bool is_variable) const {
  const std::string_view text = std::string_view(source_).substr(begin, end - begin);
  if (sign == '-') return std::string(strip(text, Side::right));
  if (sign == '+' || is_variable) return std::string(text);
  const std::size_t newline = text.rfind('\n');
  const bool at_line_start = newline != text.npos || begin == 0 || source_[begin - 1] == '\n';
  const std::size_t last_line = newline == text.npos ? 0 : newline + 1;
  if (at_line_start && strip(text.substr(last_line), Side::left).empty()) return std::string(text.substr(0, last_line));
  return std::string(text);
}

void Lexer::read_data() {
  const Opening opening = find_opening();
  const bool keep = opening.kind == '{' || opening.kind == '\0';
  std::string text = stripped_data(position_, opening.begin, opening.sign, keep);
  if (!text.empty()) pending_.push_back(make(Token::Type::data, std::move(text)));
  move_to(opening.begin);
  switch (opening.kind) {
    case '{':
    case '%':
      mode_ = opening.kind == '{' ? Mode::variable : Mode::block;
      pending_.push_back(make(opening.kind == '{' ? Token::Type::variable_begin : Token::Type::block_begin));
      move_to(opening.inside);
      break;
    case '#':
      move_to(opening.inside);
      skip_comment();
      break;
    case 'r': read_raw(opening.inside); break;
    default: break;
  }
}

void Lexer::skip_comment() {
  for (std::size_t position = position_; position < source_.size(); ++position) {
    if (const std::size_t after = after_close(position, "#}", true)) return move_to(after);
  }
  syntax_error(line_, "missing end of comment tag");
}

void Lexer::read_raw(std::size_t after_begin) {
  const int line = line_;
  move_to(after_begin);
  if (position_ == source_.size()) return;  // the reference misses the end of a raw block only where there is text
  for (std::size_t tag = position_; (tag = source_.find("{%", tag)) != std::string::npos; ++tag) {
    const char sign = at(tag + 2) == '-' || at(tag + 2) == '+' ? at(tag + 2) : '\0';
    const std::size_t word = after_space(tag + (sign ? 3 : 2));
    const std::size_t after = starts(word, "endraw") ? after_close(after_space(word + 6), "%}", true) : 0;
    if (!after) continue;
    std::string text = stripped_data(position_, tag, sign, false);
    if (!text.empty()) pending_.push_back(make(Token::Type::data, std::move(text)));
    return move_to(after);
  }
  syntax_error(line, "missing end of raw directive");
}

bool Lexer::try_tag_end() {
  if (!brackets_.empty()) return false;
  const bool is_block = mode_ == Mode::block;
  const std::size_t after = after_close(position_, is_block ? "%}" : "}}", is_block);
  if (!after) return false;
  pending_.push_back(make(is_block ? Token::Type::block_end : Token::Type::variable_end));
  move_to(after);
  mode_ = Mode::data;
  return true;
}

Token Lexer::read_in_tag() {
  const char c = at(position_);
  if (is_digit(c)) return read_number();
  if (c == '\'' || c == '"') return read_string();
  const std::size_t begin = position_;
  std::size_t end = begin;
  while (end < source_.size()) {
    std::size_t following = end;
    if (!is_in_class(next_code_point(source_, following), CharacterClass::word)) break;
    end = following;
  }
  if (end == begin) return read_symbol();
  Token token = make(Token::Type::name, source_.substr(begin, end - begin));
  move_to(end);
  return token;
}

Token Lexer::read_number() {
  std::string digits;  // without the underscores that may stand between two digits
  const auto read_digits = [&](std::size_t position, int base) {
    while (true) {
      const std::size_t digit = at(position) == '_' && !digits.empty() ? position + 1 : position;
      const int value = hexadecimal(at(digit));
      if (value < 0 || value >= base) return position;
      digits += at(digit);
      position = digit + 1;
    }
  };
  int base = 10;
  std::size_t begin = position_;
  if (at(begin) == '0') {
    const char marker = static_cast<char>(at(begin + 1) | 0x20);
    base = marker == 'b' ? 2 : marker == 'o' ? 8 : marker == 'x' ? 16 : 10;
    if (base != 10 && hexadecimal(at(begin + 2 + (at(begin + 2) == '_'))) >= 0)
      begin += at(begin + 2) == '_' ? 3 : 2;
    else
      base = 10;
  }
  std::size_t end = read_digits(begin, base);
  const bool after_dot = position_ > 0 && source_[position_ - 1] == '.';  // in x.0.1 nothing is a float
  bool is_real = false;
  if (base == 10 && !after_dot && at(end) == '.' && is_digit(at(end + 1))) {
    digits += '.';
    end = read_digits(end + 1, 10);
    is_real = true;
  }
  if (base == 10 && !after_dot && (at(end) | 0x20) == 'e') {
    const std::size_t sign = at(end + 1) == '+' || at(end + 1) == '-';
    if (is_digit(at(end + 1 + sign))) {
      digits += at(end + 1) == '-' ? "e-" : "e";
      end = read_digits(end + 1 + sign, 10);
      is_real = true;
    }
  }
  if (base == 10 && !is_real && digits[0] == '0' && digits.find_first_not_of('0') != std::string::npos)
    syntax_error(line_, fmt::format("the integer {} begins with 0", digits));
  Token token = make(is_real ? Token::Type::real : Token::Type::integer);
  const char *first = digits.data(), *last = first + digits.size();
  const auto result =
      is_real ? std::from_chars(first, last, token.real) : std::from_chars(first, last, token.integer, base);
  if (result.ec != std::errc() || result.ptr != last)
    syntax_error(line_, fmt::format("the number {} is out of range", source_.substr(position_, end - position_)));
  move_to(end);
  return token;
}

Token Lexer::read_string() {
  const char quote = at(position_);
  std::size_t end = position_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) syntax_error(line_, "a string has no end");
  Token token = make(Token::Type::string);
  token.text = unescape(std::string_view(source_).substr(position_ + 1, end - position_ - 1), line_);
  move_to(end + 1);
  return token;
}

Token Lexer::read_symbol() {
  constexpr std::string_view symbols[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                          "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
  for (const std::string_view symbol : symbols) {
    if (!starts(position_, symbol)) continue;
    Token token = make(Token::Type::symbol, std::string(symbol));
    const char c = symbol[0];
    if (c == '(' || c == '[' || c == '{') brackets_.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty()) syntax_error(line_, fmt::format("unexpected '{}'", c));
      if (brackets_.back() != c)
        syntax_error(line_, fmt::format("unexpected '{}', expected '{}'", c, brackets_.back()));
      brackets_.pop_back();
    }
    move_to(position_ + symbol.size());
    return token;
  }
  std::size_t end = position_;
  next_code_point(source_, end);
  syntax_error(line_, fmt::format("unexpected character '{}'", source_.substr(position_, end - position_)));
}

}  // namespace lathe::jinja
