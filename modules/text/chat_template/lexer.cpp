// The lexer of chat templates; see the header.
#include "text/chat_template/lexer.h"

#include <charconv>
#include <optional>

#include "text/chat_template/value.h"
#include "text/unicode/python_text.h"
#include "text/unicode/utf8.h"

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
    append_character(text, code_point);
  } else if (c == 'x' || c == 'u' || c == 'U') {
    char32_t code_point = 0;
    for (int i = c == 'x' ? 2 : c == 'u' ? 4 : 8; i > 0; --i, ++position) {
      const int digit = position < body.size() ? digit_value(body[position]) : 16;
      if (digit >= 16) syntax_error(line, fmt::format("truncated \\{} escape in a string", c));
      code_point = code_point * 16 + static_cast<char32_t>(digit);
    }
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000))
      syntax_error(line, fmt::format("the escape \\{} in a string is no character", c));
    append_character(text, code_point);
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
  constexpr std::pair<std::string_view, std::string_view> tags[] = {{"{{", "begin of print statement"},
                                                                    {"}}", "end of print statement"},
                                                                    {"{%", "begin of statement block"},
                                                                    {"%}", "end of statement block"}};
  for (const auto& [braces, name] : tags)
    if (token.is_symbol(braces)) return std::string(name);
  constexpr std::string_view names[] = {"template text", "", "string", "integer", "float", "", "end of template"};
  const std::string_view name = names[static_cast<int>(token.type)];
  return name.empty() ? token.text : std::string(name);
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
  if (const auto invalid = first_invalid_utf8(source)) throw Error(fmt::format("is not UTF-8 at byte {}", *invalid));
  source_ = normalize_newlines(source);
}

Token Lexer::next() {
  while (pending_.empty()) {
    if (close_.empty()) {
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

Token Lexer::make(Token::Type type, std::string text) const { return {type, line_, std::move(text), 0, 0}; }

void Lexer::move_to(std::size_t position) {
  for (; position_ < position; ++position_) line_ += source_[position_] == '\n';
}

std::size_t Lexer::after_space(std::size_t position) const {
  if (position >= source_.size()) return position;
  return source_.size() - python::strip(std::string_view(source_).substr(position), python::Side::left).size();
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
void Lexer::push_data(std::size_t begin, std::size_t end, char sign, bool keeps_space) {
  std::string_view text = std::string_view(source_).substr(begin, end - begin);
  if (sign == '-') {
    text = python::strip(text, python::Side::right);
  } else if (sign != '+' && !keeps_space) {
    const std::size_t last_line = text.rfind('\n') + 1;  // 0 where there is none
    const bool at_line_start = last_line > 0 || begin == 0 || source_[begin - 1] == '\n';
    if (at_line_start && python::strip(text.substr(last_line), python::Side::left).empty())
      text = text.substr(0, last_line);
  }
  if (!text.empty()) pending_.push_back(make(Token::Type::data, std::string(text)));
}

void Lexer::read_data() {
  const Opening opening = find_opening();
  push_data(position_, opening.begin, opening.sign, opening.kind == '{' || opening.kind == '\0');
  move_to(opening.inside);
  if (opening.kind == '#') skip_comment();
  if (opening.kind == 'r') read_raw();
  if (opening.kind != '{' && opening.kind != '%') return;
  close_ = opening.kind == '{' ? "}}" : "%}";
  pending_.push_back(make(Token::Type::symbol, opening.kind == '{' ? "{{" : "{%"));
}

void Lexer::skip_comment() {
  for (std::size_t position = position_; position < source_.size(); ++position) {
    if (const std::size_t after = after_close(position, "#}", true)) return move_to(after);
  }
  syntax_error(line_, "missing end of comment tag");
}

void Lexer::read_raw() {
  if (position_ == source_.size()) return;  // the reference misses the end of a raw block only where there is text
  for (std::size_t tag = position_; (tag = source_.find("{%", tag)) != std::string::npos; ++tag) {
    const char sign = at(tag + 2) == '-' || at(tag + 2) == '+' ? at(tag + 2) : '\0';
    const std::size_t word = after_space(tag + (sign ? 3 : 2));
    const std::size_t after = starts(word, "endraw") ? after_close(after_space(word + 6), "%}", true) : 0;
    if (!after) continue;
    push_data(position_, tag, sign, false);
    return move_to(after);
  }
  syntax_error(line_, "missing end of raw directive");
}

bool Lexer::try_tag_end() {
  if (!brackets_.empty()) return false;
  const std::size_t after = after_close(position_, close_, close_ == "%}");
  if (!after) return false;
  pending_.push_back(make(Token::Type::symbol, std::string(std::exchange(close_, {}))));
  move_to(after);
  return true;
}

Token Lexer::read_in_tag() {
  const char c = at(position_);
  if (is_digit(c)) return read_number();
  if (c == '\'' || c == '"') return read_string();
  std::size_t end = position_;
  for (const auto [character, bytes] : characters(std::string_view(source_).substr(end))) {
    if (!python::is_word(character)) break;
    end += bytes.size();
  }
  if (end == position_) return read_symbol();
  Token token = make(Token::Type::name, source_.substr(position_, end - position_));
  move_to(end);
  return token;
}

Token Lexer::read_number() {
  const auto is_digit_at = [&](std::size_t i, int base) { return digit_value(at(i)) < base; };
  const auto behind_digits = [&](std::size_t i, int base) {  // between which underscores may stand
    while (is_digit_at(i, base) || (at(i) == '_' && is_digit_at(i + 1, base))) ++i;
    return i;
  };
  const char marker = at(position_) == '0' ? static_cast<char>(at(position_ + 1) | 0x20) : '\0';
  int base = marker == 'b' ? 2 : marker == 'o' ? 8 : marker == 'x' ? 16 : 10;
  std::size_t begin = position_ + (base == 10 ? 0 : 2), end = behind_digits(begin, base);
  if (begin == end) begin = position_, end = behind_digits(begin, base = 10);
  const bool after_dot = position_ > 0 && source_[position_ - 1] == '.';  // in x.0.1 nothing is a float
  bool is_real = false;
  if (base == 10 && !after_dot) {
    const bool has_fraction = at(end) == '.' && is_digit(at(end + 1));
    if (has_fraction) end = behind_digits(end + 1, 10);
    const std::size_t exponent = end + 1 + (at(end + 1) == '+' || at(end + 1) == '-');
    const bool has_exponent = (at(end) | 0x20) == 'e' && is_digit(at(exponent));
    if (has_exponent) end = behind_digits(exponent, 10);
    is_real = has_fraction || has_exponent;
  }
  std::string digits = source_.substr(begin, end - begin);
  std::erase(digits, '_');
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
  next_character(source_, end);
  syntax_error(line_, fmt::format("unexpected character '{}'", source_.substr(position_, end - position_)));
}

}  // namespace lathe::jinja
