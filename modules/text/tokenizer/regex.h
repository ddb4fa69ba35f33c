// Regular expressions of tokenizer files, run by PCRE2 with its just-in-time compiler.
//
// The files are written for Oniguruma; patterns are rewritten when compiled (oniguruma.h), so that both split every
// character alike. The surprising one: PCRE2's \s also matches U+180E, which has not been white space since
// Unicode 6.3.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace lathe {

class Regex {
 public:
  enum class Syntax { oniguruma, literal };

  // Throws Error naming the pattern and the place in it.
  explicit Regex(const std::string& pattern, Syntax syntax = Syntax::oniguruma);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // The matches in `text` (valid UTF-8) from left to right; they do not overlap. An empty match right behind another
  // match is passed over. The object keeps a reference to both arguments; one object, one thread.
  class Matches {
   public:
    Matches(const Regex& regex, std::string_view text);
    ~Matches();
    Matches(const Matches&) = delete;
    Matches& operator=(const Matches&) = delete;
    // False when there is none left. Throws Error when PCRE2 gives up (a pattern that backtracks without end).
    bool next(size_t& begin, size_t& end);

   private:
    const Regex& regex_;
    std::string_view text_;
    void* match_data_;
    size_t start_ = 0;
    size_t last_end_ = static_cast<size_t>(-1);
  };

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace lathe
