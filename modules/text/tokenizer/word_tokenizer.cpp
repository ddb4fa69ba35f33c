#include "text/tokenizer/word_tokenizer.h"

#include <algorithm>
#include <atomic>
#include <unordered_map>

#include "text/unicode/unicode.h"

namespace lathe {
namespace {

// The ids of words seen before, one cache a thread, so that nothing is shared or locked: text repeats its words so
// often that nine of ten need no merging.
class WordCache {
 public:
  const std::vector<int32_t>* find(std::string_view word) const {
    auto found = words_.find(word);
    return found == words_.end() ? nullptr : &found->second;
  }
  void insert(std::string_view word, const int32_t* begin, const int32_t* end) {
    if (words_.size() == kWords) words_.clear();
    words_.emplace(word, std::vector<int32_t>(begin, end));
  }
  // The calling thread's cache for the object named `instance`; that of any other object is dropped.
  static WordCache& of(uint64_t instance) {
    thread_local WordCache cache;
    if (cache.instance_ != instance) {
      cache.words_.clear();
      cache.instance_ = instance;
    }
    return cache;
  }
  static constexpr size_t kLongestWord = 128;  // bytes

 private:
  static constexpr size_t kWords = 1 << 16;
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view word) const { return std::hash<std::string_view>{}(word); }
  };
  std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> words_;
  uint64_t instance_ = 0;
};

char32_t character_before(std::string_view text, size_t position) {
  position = previous_character(text, position);
  return next_character(text, position);
}

}  // namespace

WordTokenizer::WordTokenizer(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
  static std::atomic<uint64_t> instances{0};
  instance_ = ++instances;
}

void WordTokenizer::find_joined() const {
  // Were the symbol unknown, it could fuse with an unknown character before it.
  has_space_symbol_ = vocabulary_.find(kSpaceSymbol) >= 0;
  for (int64_t id = 0; has_space_symbol_ && id < vocabulary_.size(); ++id) {
    const std::string_view token = vocabulary_.text(id);
    for (size_t at = token.find(kSpaceSymbol, 1); at != std::string_view::npos; at = token.find(kSpaceSymbol, at + 1))
      joined_.push_back(character_before(token, at));
  }
  std::sort(joined_.begin(), joined_.end());
  joined_.erase(std::unique(joined_.begin(), joined_.end()), joined_.end());
}

void WordTokenizer::tokenize(std::string_view piece, bool may_cut, std::vector<int32_t>& ids,
                             const Merge& merge) const {
  size_t begin = 0;
  if (may_cut && piece.size() > WordCache::kLongestWord) {
    std::call_once(joined_found_, [this] { find_joined(); });
    for (size_t at = has_space_symbol_ ? piece.find(kSpaceSymbol, 1) : std::string_view::npos;
         at != std::string_view::npos; at = piece.find(kSpaceSymbol, at + 1)) {
      if (std::binary_search(joined_.begin(), joined_.end(), character_before(piece, at))) continue;
      tokenize_word(piece.substr(begin, at - begin), ids, merge);
      begin = at;
    }
  }
  tokenize_word(piece.substr(begin), ids, merge);
}

void WordTokenizer::tokenize_word(std::string_view word, std::vector<int32_t>& ids, const Merge& merge) const {
  if (word.size() > WordCache::kLongestWord) return merge(word, ids);
  WordCache& cache = WordCache::of(instance_);
  if (const auto* known = cache.find(word)) {
    ids.insert(ids.end(), known->begin(), known->end());
    return;
  }
  const size_t before = ids.size();
  merge(word, ids);
  cache.insert(word, ids.data() + before, ids.data() + ids.size());
}

}  // namespace lathe
