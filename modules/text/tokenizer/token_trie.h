// A trie over the bytes of a vocabulary: finds every token that a text begins with.
//
// Nodes lie in breadth-first order, so the children of a node are neighbours and end where those of the next node
// begin: a node is 8 bytes and a label of one byte, and a step is one scan of the labels of its children.
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace lathe {

class TokenTrie {
 public:
  // The tokens with their ids, in any order; empty ones are left out. Of two with the same text the later one counts.
  explicit TokenTrie(std::vector<std::pair<std::string_view, int32_t>> tokens);

  // Calls found(length in bytes, id) for each token that `text` begins with, the shortest first.
  template <class Found>
  void each_prefix(std::string_view text, const Found& found) const {
    uint32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      const uint32_t first = nodes_[node].first_child, end = nodes_[node + 1].first_child;
      const void* label = first < end ? std::memchr(labels_.data() + first, text[i], end - first) : nullptr;
      if (!label) return;
      node = static_cast<uint32_t>(static_cast<const char*>(label) - labels_.data());
      if (nodes_[node].id >= 0) found(i + 1, nodes_[node].id);
    }
  }

 private:
  struct Node {
    uint32_t first_child;
    int32_t id;  // of the token that ends here, or -1
  };
  std::vector<Node> nodes_;   // and one behind the last, for its children's end
  std::vector<char> labels_;  // the byte that leads to each node
};

}  // namespace lathe
