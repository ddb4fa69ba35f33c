#include "text/tokenizer/token_trie.h"

#include <algorithm>
#include <deque>

namespace lathe {

TokenTrie::TokenTrie(std::vector<std::pair<std::string_view, int32_t>> tokens) {
  std::stable_sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  // A node is a range of the sorted tokens that agree in their first `depth` bytes.
  struct Range {
    size_t begin, end, depth;
  };
  std::deque<Range> waiting = {{0, tokens.size(), 0}};
  labels_.push_back(0);
  for (; !waiting.empty(); waiting.pop_front()) {
    auto [begin, end, depth] = waiting.front();
    int32_t id = -1;
    for (; begin < end && tokens[begin].first.size() == depth; ++begin) id = tokens[begin].second;
    nodes_.push_back({static_cast<uint32_t>(labels_.size()), depth == 0 ? -1 : id});
    while (begin < end) {
      const char label = tokens[begin].first[depth];
      const auto other = std::partition_point(
          tokens.begin() + static_cast<std::ptrdiff_t>(begin), tokens.begin() + static_cast<std::ptrdiff_t>(end),
          [at = depth, label](const auto& token) { return token.first[at] == label; });
      const auto next = static_cast<size_t>(other - tokens.begin());
      waiting.push_back({begin, next, depth + 1});
      labels_.push_back(label);
      begin = next;
    }
  }
  nodes_.push_back({static_cast<uint32_t>(labels_.size()), -1});
}

}  // namespace lathe
