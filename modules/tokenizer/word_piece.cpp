#include "tokenizer/word_piece.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace lathe {

WordPiece::WordPiece(std::shared_ptr<const Vocabulary> vocabulary, int32_t unknown, std::string continuing_prefix,
                     int64_t max_characters)
    : vocabulary_(std::move(vocabulary)),
      unknown_(unknown),
      continuing_prefix_(std::move(continuing_prefix)),
      max_characters_(max_characters),
      longest_(0) {
  for (int64_t id = 0; id < vocabulary_->size(); ++id) longest_ = std::max(longest_, vocabulary_->text(id).size());
}

void WordPiece::tokenize(std::string_view word, std::vector<int32_t>& ids) const {
  int64_t characters = 0;
  for (size_t i = 0; i < word.size(); i += character_length(word[i])) ++characters;
  const size_t before = ids.size();
  bool known = characters <= max_characters_;
  std::string spelled;
  for (size_t begin = 0; known && begin < word.size();) {
    spelled = begin == 0 ? std::string() : continuing_prefix_;
    const size_t prefix = spelled.size();
    spelled.append(word.substr(begin, longest_));
    int32_t id = Vocabulary::kNone;
    while (spelled.size() > prefix && (id = vocabulary_->find(spelled)) < 0) spelled.pop_back();
    known = id >= 0;
    ids.push_back(id);
    begin += spelled.size() - prefix;
  }
  if (known) return;
  ids.resize(before);
  ids.push_back(unknown_);
}

WordLevel::WordLevel(std::shared_ptr<const Vocabulary> vocabulary, int32_t unknown)
    : vocabulary_(std::move(vocabulary)), unknown_(unknown) {}

void WordLevel::tokenize(std::string_view word, std::vector<int32_t>& ids) const {
  const int32_t id = vocabulary_->find(word);
  ids.push_back(id < 0 ? unknown_ : id);
}

}  // namespace lathe
