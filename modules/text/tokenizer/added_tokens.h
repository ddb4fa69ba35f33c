// Tokens that are found in the text before anything else happens to it: `added_tokens` of tokenizer.json, control and
// user-defined tokens elsewhere.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lathe {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool special = false;      // a control token
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;       // and on its right
  bool normalized = false;   // searched, itself normalised, in the normalised text

  bool operator==(const AddedToken&) const = default;
};

// A trie over the contents of tokens: matches are the leftmost and, of those, the longest.
class TokenMatcher {
 public:
  // `pattern` is what to look for, the token's content or its normalised form. Empty patterns are ignored, and those
  // that another token has already.
  void add(std::string_view pattern, const AddedToken& token);
  bool empty() const { return nodes_.size() == 1; }

  struct Segment {
    std::string_view text;
    int32_t id;  // of the token, or -1: text between tokens
  };
  // Cuts `text` into segments. With `skip_special` special tokens are found, and left in the text. A special token that
  // would cover one of the bytes `plain` (offsets, ascending) is no match; a shorter one that does not may be.
  std::vector<Segment> split(std::string_view text, bool skip_special, std::span<const size_t> plain = {}) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, uint32_t>> children;
    int32_t token = -1;  // index in tokens_
  };
  struct Flags {
    int32_t id;
    bool special, single_word, lstrip, rstrip;
  };
  uint32_t child(uint32_t node, unsigned char byte) const;
  // The longest token that begins at `begin`: its index and where it ends, or -1.
  std::pair<int32_t, size_t> match(std::string_view text, size_t begin, std::span<const size_t> plain) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<uint32_t, 256> first_{};  // the root's children, 0 where there is none
  std::vector<Flags> tokens_;
};

}  // namespace lathe
