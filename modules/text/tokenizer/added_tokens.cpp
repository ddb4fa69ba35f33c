#include "text/tokenizer/added_tokens.h"

#include <algorithm>

#include "text/tokenizer/pattern.h"

namespace lathe {

uint32_t TokenMatcher::child(uint32_t node, unsigned char byte) const {
  if (node == 0) return first_[byte];
  for (const auto& [label, next] : nodes_[node].children)
    if (label == byte) return next;
  return 0;
}

void TokenMatcher::add(std::string_view pattern, const AddedToken& token) {
  if (pattern.empty()) return;
  uint32_t node = 0;
  for (char c : pattern) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      if (node == 0) first_[byte] = next;
      nodes_[node].children.emplace_back(byte, next);
    }
    node = next;
  }
  if (nodes_[node].token >= 0) return;
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back({token.id, token.special, token.single_word, token.lstrip, token.rstrip});
}

std::pair<int32_t, size_t> TokenMatcher::match(std::string_view text, size_t begin,
                                               std::span<const size_t> plain) const {
  std::pair<int32_t, size_t> longest{-1, begin};
  const auto next_plain = std::lower_bound(plain.begin(), plain.end(), begin);
  const size_t special_limit = next_plain == plain.end() ? text.size() : *next_plain;
  uint32_t node = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    node = child(node, static_cast<unsigned char>(text[i]));
    if (node == 0) break;
    const int32_t token = nodes_[node].token;
    if (token >= 0 && (i < special_limit || !tokens_[static_cast<size_t>(token)].special)) longest = {token, i + 1};
  }
  return longest;
}

std::vector<TokenMatcher::Segment> TokenMatcher::split(std::string_view text, bool skip_special,
                                                       std::span<const size_t> plain) const {
  std::vector<Segment> segments;
  size_t done = 0;
  for (size_t i = 0; i < text.size();) {
    const auto [index, end] = match(text, i, plain);
    if (index < 0) {
      ++i;
      continue;
    }
    const Flags& token = tokens_[static_cast<size_t>(index)];
    size_t begin = i, stop = end;
    i = end;
    if (token.special && skip_special) continue;
    if (token.single_word && (word_character_before(text, begin) || word_character_at(text, stop))) continue;
    // White space that the token before has taken already stays with that one.
    if (token.lstrip) begin = std::max(white_space_before(text, begin), done);
    if (token.rstrip) stop = white_space_behind(text, stop);
    if (done < begin) segments.push_back({text.substr(done, begin - done), -1});
    // Of a token that lay in white space which the one before took, nothing is left.
    if (begin < stop) segments.push_back({text.substr(begin, stop - begin), token.id});
    done = std::max(done, stop);
  }
  if (done < text.size()) segments.push_back({text.substr(done), -1});
  return segments;
}

}  // namespace lathe
