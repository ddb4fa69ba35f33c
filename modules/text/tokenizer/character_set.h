// Sets of characters in Oniguruma's meaning, spelled for PCRE2. Part of the translation in oniguruma.cpp.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

class CharacterSet {
 public:
  void add(char32_t character) { add(character, character); }
  void add(char32_t first, char32_t last);
  void add(const CharacterSet& other);  // the union
  void negate() { negated_ = !negated_; }
  static CharacterSet intersection(const std::vector<CharacterSet>& sets);

  // \w, \s, \d and \h.
  static std::optional<CharacterSet> shorthand(char letter);
  // \p{name}: case, spaces, hyphens and underscores do not count. A name that is not known is left to PCRE2.
  static CharacterSet property(std::string_view name);
  // [:name:]; nothing for a name that POSIX does not have.
  static std::optional<CharacterSet> posix(std::string_view name);

  // A pattern that matches one character, as one atom.
  std::string spelled() const;

 private:
  static CharacterSet listed(std::string items);
  // `items`, and the additions to the categories with these prefixes.
  static CharacterSet categories(const std::vector<std::string_view>& prefixes, std::string items);
  // What is in none of `items`, and all additions.
  static CharacterSet outside(std::string items);

  std::string items_;                // what PCRE2's brackets can hold
  std::vector<std::string> others_;  // patterns of one character each
  bool negated_ = false;
};

// One character as a pattern, whatever it is.
std::string spelled_character(char32_t character);

}  // namespace lathe
