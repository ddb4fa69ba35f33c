#include "text/tokenizer/word_piece.h"

#include <algorithm>

#include "text/unicode/unicode.h"

namespace lathe {

WordPiece::WordPiece(std::shared_ptr<const Vocabulary> vocabulary, int32_t unknown, std::string continuing_prefix,
                     int64_t max_characters, std::string word_prefix)
    : vocabulary_(std::move(vocabulary)),
      unknown_(unknown),
      word_prefix_(std::move(word_prefix)),
      continuing_prefix_(std::move(continuing_prefix)),
      max_characters_(max_characters),
      longest_(0),
      words_(*vocabulary_) {
  for (int64_t id = 0; id < vocabulary_->size(); ++id) longest_ = std::max(longest_, vocabulary_->text(id).size());
}

std::vector<WordPiece::Part> WordPiece::cut(std::string_view word) const {
  if (static_cast<int64_t>(count_characters(word)) > max_characters_) return {{0, word.size(), unknown_}};
  std::vector<Part> parts;
  std::string spelled = word_prefix_;  // what is still to be cut; a word's prefix may be a token by itself
  spelled += word;
  size_t done = 0;  // bytes of `spelled`
  auto position = [&](size_t at) { return at > word_prefix_.size() ? at - word_prefix_.size() : 0; };
  std::string part;
  while (done < spelled.size()) {
    const size_t affix = done == 0 ? 0 : continuing_prefix_.size();
    part.assign(continuing_prefix_, 0, affix).append(spelled, done, longest_);
    int32_t id = Vocabulary::kNone;
    while (part.size() > affix && (id = vocabulary_->find(part)) < 0) part.pop_back();
    if (id < 0) return {{0, word.size(), unknown_}};
    const size_t end = done + part.size() - affix;
    parts.push_back({position(done), position(end), id});
    done = end;
  }
  return parts;
}

void WordPiece::tokenize(std::string_view word, std::vector<int32_t>& ids) const {
  words_.tokenize(word, false, ids, [this](std::string_view whole, std::vector<int32_t>& out) {
    for (const Part& part : cut(whole)) out.push_back(part.id);
  });
}

std::vector<ModelStep> WordPiece::explain(std::string_view word, std::vector<int32_t>& ids) const {
  std::vector<ModelStep> steps;
  for (const Part& part : cut(word)) {
    ids.push_back(part.id);
    steps.push_back({ModelStep::Kind::token, part.begin, part.begin, part.end, part.id});
  }
  return steps;
}

WordLevel::WordLevel(std::shared_ptr<const Vocabulary> vocabulary, int32_t unknown)
    : vocabulary_(std::move(vocabulary)), unknown_(unknown) {}

void WordLevel::tokenize(std::string_view word, std::vector<int32_t>& ids) const {
  const int32_t id = vocabulary_->find(word);
  ids.push_back(id < 0 ? unknown_ : id);
}

}  // namespace lathe
