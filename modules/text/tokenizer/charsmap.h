// Sentencepiece's compiled normalisation rules (`precompiled_charsmap`): which bytes of a text become which others.
//
// The format is that of sentencepiece's normalizer.cc: four bytes of length, a trie in the form of darts-clone's double
// array (Yata et al. 2007), and behind it the replacements, each ended by a zero byte; a leaf of the trie holds the
// offset of its replacement. What is surprising: sentencepiece takes the longest rule that matches, `tokenizers` the
// shortest, which it then puts in place of the whole grapheme.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

class Charsmap {
 public:
  // Throws Error unless every node's children and every replacement lie inside `bytes`. No bytes: no rules.
  explicit Charsmap(std::string_view bytes);

  struct Match {
    size_t length;                 // bytes of the text that are replaced
    std::string_view replacement;  // lives as long as the map
  };
  // The rule for the shortest, or the longest, beginning of `text` that has one.
  std::optional<Match> shortest(std::string_view text) const;
  std::optional<Match> longest(std::string_view text) const;

 private:
  template <class Found>
  void each_prefix(std::string_view text, const Found& found) const;
  std::string_view replacement(uint32_t offset) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace lathe
