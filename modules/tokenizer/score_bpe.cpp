#include "tokenizer/score_bpe.h"

#include "tensor/errors.h"
#include "tokenizer/symbol_merger.h"
#include "tokenizer/unicode.h"

namespace lathe {

ScoreBpe::ScoreBpe(std::shared_ptr<const Vocabulary> vocabulary, std::vector<float> scores, int32_t unknown)
    : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), words_(*vocabulary_) {
  check(static_cast<int64_t>(scores_.size()) == vocabulary_->size(), "tokenizer", "{} scores for {} tokens",
        scores_.size(), vocabulary_->size());
  for (int byte = 0; byte < 256; ++byte) {
    int32_t id = vocabulary_->find(fmt::format("<0x{:02X}>", byte));
    if (id < 0) id = vocabulary_->find(std::string(1, static_cast<char>(byte)));
    byte_ids_[static_cast<size_t>(byte)] = id < 0 ? unknown : id;
  }
}

void ScoreBpe::tokenize(std::string_view piece, std::vector<int32_t>& ids) const {
  words_.tokenize(piece, true, ids, [this](std::string_view word, std::vector<int32_t>& out) { merge(word, out); });
}

void ScoreBpe::merge(std::string_view piece, std::vector<int32_t>& ids) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  for (size_t begin = 0; begin < piece.size();) {
    const size_t length = std::min(character_length(piece[begin]), piece.size() - begin);
    symbols.push_back({vocabulary_->find(piece.substr(begin, length)), static_cast<uint32_t>(begin),
                       static_cast<uint32_t>(length), -1, -1});
    begin += length;
  }
  link(symbols);
  merge_symbols<float>(symbols, [&](const Symbol& left, const Symbol& right, float& rank, int32_t& id) {
    id = vocabulary_->find(piece.substr(left.begin, left.length + right.length));
    if (id < 0) return false;
    rank = -scores_[static_cast<size_t>(id)];
    return true;
  });
  for (const Symbol& symbol : symbols) {
    if (symbol.length == 0) continue;
    if (symbol.id >= 0) {
      ids.push_back(symbol.id);
      continue;
    }
    for (char byte : piece.substr(symbol.begin, symbol.length))
      if (const int32_t id = byte_ids_[static_cast<unsigned char>(byte)]; id >= 0) ids.push_back(id);
  }
}

}  // namespace lathe
