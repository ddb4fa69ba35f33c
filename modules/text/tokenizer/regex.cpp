#include "text/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "formats/quote.h"
#include "tensor/errors.h"
#include "text/tokenizer/oniguruma.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256];
  return pcre2_get_error_message(code, buffer, sizeof buffer) < 0 ? fmt::format("error {}", code)
                                                                  : reinterpret_cast<const char*>(buffer);
}

}  // namespace

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
