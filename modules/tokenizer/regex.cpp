#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>
#include <vector>

#include "formats/quote.h"
#include "tensor/errors.h"
#include "tokenizer/unicode.h"

namespace lathe {
namespace {

// Oniguruma's \w: Unicode Technical Standard 18, annex C, without the join controls.
constexpr std::string_view kWordSet = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

// Rewrites one pattern from left to right. `atom_` is where the atom that a quantifier would repeat begins in the
// output.
class OnigurumaTranslator {
 public:
  explicit OnigurumaTranslator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape(false);
      } else if (c == '[') {
        character_class();
      } else if (c == '(') {
        open_group();
      } else if (c == ')') {
        if (!groups_.empty()) {
          atom_ = groups_.back();
          groups_.pop_back();
        }
        copy(1);
      } else if (c == '{') {
        interval();
      } else {
        if (c != '*' && c != '+' && c != '?') atom_ = out_.size();
        copy(character_length(c));
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const char* construct) const {
    throw Error(fmt::format("regex: {} at offset {} of pattern {} is not supported", construct, at_, quote(in_)));
  }

  void copy(size_t count) {
    out_.append(in_.substr(at_, count));
    at_ = std::min(at_ + count, in_.size());
  }
  void replace(size_t count, std::string_view with) {
    out_.append(with);
    at_ += count;
  }
  bool looking_at(std::string_view text) const { return in_.substr(at_, text.size()) == text; }

  void escape(bool in_class) {
    if (!in_class) atom_ = out_.size();
    if (at_ + 1 >= in_.size()) return copy(1);
    const std::string word(kWordSet);
    const std::string set = "[" + word + "]";
    switch (in_[at_ + 1]) {
      case 's': return replace(2, "\\p{White_Space}");
      case 'S': return replace(2, "\\P{White_Space}");
      case 'w': return replace(2, in_class ? word : set);
      case 'W': return in_class ? refuse("\\W in a character class") : replace(2, "[^" + word + "]");
      case 'h': return replace(2, in_class ? "0-9a-fA-F" : "[0-9a-fA-F]");
      case 'H': return in_class ? refuse("\\H in a character class") : replace(2, "[^0-9a-fA-F]");
      case 'b':
        if (in_class) return copy(2);
        return replace(2, "(?:(?<=" + set + ")(?!" + set + ")|(?<!" + set + ")(?=" + set + "))");
      case 'B':
        if (in_class) return copy(2);
        return replace(2, "(?:(?<=" + set + ")(?=" + set + ")|(?<!" + set + ")(?!" + set + "))");
      case 'u': {
        const std::string digits(in_.substr(at_ + 2, 4));
        return replace(2 + digits.size(), "\\x{" + digits + "}");
      }
      case 'p':
      case 'P':
      case 'x':
        if (at_ + 2 < in_.size() && in_[at_ + 2] == '{') {
          const size_t close = in_.find('}', at_);
          return copy(close == std::string_view::npos ? in_.size() - at_ : close + 1 - at_);
        }
        return copy(2);
      default: return copy(1 + character_length(in_[at_ + 1]));
    }
  }

  void character_class() {
    atom_ = out_.size();
    copy(1);
    if (looking_at("^")) copy(1);
    if (looking_at("]")) replace(1, "\\]");  // a bracket that comes first stands for itself
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '\\') {
        escape(true);
      } else if (looking_at("[:")) {
        const size_t close = in_.find(":]", at_);
        copy(close == std::string_view::npos ? in_.size() - at_ : close + 2 - at_);
      } else if (in_[at_] == '[') {
        refuse("a nested character class");
      } else if (looking_at("&&")) {
        refuse("an intersection of character classes");
      } else {
        copy(character_length(in_[at_]));
      }
    }
    copy(1);
  }

  void open_group() {
    groups_.push_back(out_.size());
    copy(1);
    if (!looking_at("?")) return;
    copy(1);
    // Options: what Ruby calls m (the dot matches a line feed) is s elsewhere.
    while (at_ < in_.size() && (in_[at_] == 'i' || in_[at_] == 'm' || in_[at_] == 'x' || in_[at_] == '-'))
      replace(1, in_[at_] == 'm' ? "s" : in_.substr(at_, 1));
    while (at_ < in_.size() && (in_[at_] == ':' || in_[at_] == '=' || in_[at_] == '!' || in_[at_] == '<' ||
                                in_[at_] == '>' || in_[at_] == '#'))
      copy(1);
  }

  void interval() {
    size_t end = at_ + 1;
    while (end < in_.size() && (in_[end] == ',' || (in_[end] >= '0' && in_[end] <= '9'))) ++end;
    if (end == in_.size() || in_[end] != '}' || end == at_ + 1) {
      atom_ = out_.size();  // a brace that stands for itself
      return copy(1);
    }
    copy(end + 1 - at_);
    if (looking_at("+")) {  // possessive in PCRE2; in Ruby, the whole repeated once or more
      out_.insert(atom_, "(?:");
      replace(1, ")+");
    }
  }

  std::string_view in_;
  std::string out_;
  size_t at_ = 0;
  size_t atom_ = 0;
  std::vector<size_t> groups_;
};

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256];
  return pcre2_get_error_message(code, buffer, sizeof buffer) < 0 ? fmt::format("error {}", code)
                                                                  : reinterpret_cast<const char*>(buffer);
}

}  // namespace

std::string translate_oniguruma(std::string_view pattern) { return OnigurumaTranslator(pattern).run(); }

struct Regex::Code {
  explicit Code(pcre2_code* compiled) : value(compiled) {}
  ~Code() { pcre2_code_free(value); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* value;
};

Regex::Regex(const std::string& pattern, Syntax syntax) {
  if (auto offset = first_invalid_utf8(pattern))
    throw Error(fmt::format("regex: the pattern is not valid UTF-8 at offset {}", *offset));
  std::string translated;
  uint32_t options = PCRE2_UTF | PCRE2_NO_UTF_CHECK;
  if (syntax == Syntax::literal) {
    translated = pattern;
    options |= PCRE2_LITERAL;
  } else {
    translated = translate_oniguruma(pattern);
    options |= PCRE2_UCP | PCRE2_MULTILINE;  // Ruby's ^ and $ match at every line
  }
  std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (context) pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options,
                                       &error, &offset, context.get());
  if (!compiled)
    throw Error(fmt::format("regex: pattern {} does not compile: {} at offset {} of {}", quote(pattern),
                            pcre2_message(error), offset, quote(translated)));
  code_ = std::make_unique<Code>(compiled);
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);  // where it cannot, the interpreter runs
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

Regex::Matches::Matches(const Regex& regex, std::string_view text) : regex_(regex), text_(text) {
  match_data_ = pcre2_match_data_create_from_pattern(regex.code_->value, nullptr);
  if (!match_data_) throw std::bad_alloc();
}

Regex::Matches::~Matches() { pcre2_match_data_free(static_cast<pcre2_match_data*>(match_data_)); }

bool Regex::Matches::next(size_t& begin, size_t& end) {
  auto* data = static_cast<pcre2_match_data*>(match_data_);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
  while (start_ <= text_.size()) {
    int found = pcre2_match(regex_.code_->value, subject, text_.size(), start_, PCRE2_NO_UTF_CHECK, data, nullptr);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)  // the interpreter backtracks on the heap
      found = pcre2_match(regex_.code_->value, subject, text_.size(), start_, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                          nullptr);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) throw Error(fmt::format("regex: matching stopped at byte {}: {}", start_, pcre2_message(found)));
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data);
    begin = offsets[0];
    end = offsets[1];
    if (begin == end && end == last_end_) {
      start_ = end < text_.size() ? end + character_length(text_[end]) : end + 1;
      continue;
    }
    start_ = last_end_ = end;
    return true;
  }
  start_ = text_.size() + 1;
  return false;
}

}  // namespace lathe
