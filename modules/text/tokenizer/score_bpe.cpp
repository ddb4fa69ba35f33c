#include "text/tokenizer/score_bpe.h"

#include "tensor/errors.h"
#include "text/tokenizer/symbol_merger.h"
#include "text/unicode/unicode.h"

namespace lathe {

ScoreBpe::ScoreBpe(std::shared_ptr<const Vocabulary> vocabulary, std::vector<float> weights, int32_t unknown,
                   Order order)
    : vocabulary_(std::move(vocabulary)), ranks_(std::move(weights)), order_(order), words_(*vocabulary_) {
  check(static_cast<int64_t>(ranks_.size()) == vocabulary_->size(), "tokenizer", "{} scores for {} tokens",
        ranks_.size(), vocabulary_->size());
  if (order_ == Order::score)
    for (float& rank : ranks_) rank = -rank;
  for (int byte = 0; byte < 256; ++byte) {
    int32_t id = vocabulary_->find(fmt::format("<0x{:02X}>", byte));
    if (id < 0) id = vocabulary_->find(std::string(1, static_cast<char>(byte)));
    byte_ids_[static_cast<size_t>(byte)] = id < 0 ? unknown : id;
  }
}

int32_t ScoreBpe::whole(std::string_view piece) const {
  return order_ == Order::rank ? vocabulary_->find(piece) : Vocabulary::kNone;
}

void ScoreBpe::tokenize(std::string_view piece, std::vector<int32_t>& ids) const {
  if (const int32_t id = whole(piece); id >= 0) return ids.push_back(id);
  words_.tokenize(piece, true, ids, [this](std::string_view word, std::vector<int32_t>& out) { merge(word, out); });
}

std::vector<ModelStep> ScoreBpe::explain(std::string_view piece, std::vector<int32_t>& ids) const {
  std::vector<ModelStep> steps;
  if (const int32_t id = whole(piece); id >= 0) {
    ids.push_back(id);
    steps.push_back({ModelStep::Kind::token, 0, 0, piece.size(), id});
    return steps;
  }
  merge(piece, ids, &steps);
  if (order_ == Order::score)
    for (ModelStep& step : steps) step.weight = -step.weight;
  return steps;
}

void ScoreBpe::merge(std::string_view piece, std::vector<int32_t>& ids, std::vector<ModelStep>* steps) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  for (size_t begin = 0; begin < piece.size();) {
    const size_t length = std::min(character_length(piece[begin]), piece.size() - begin);
    symbols.push_back({vocabulary_->find(piece.substr(begin, length)), static_cast<uint32_t>(begin),
                       static_cast<uint32_t>(length), -1, -1});
    begin += length;
  }
  link(symbols);
  const auto lookup = [&](const Symbol& left, const Symbol& right, float& rank, int32_t& id) {
    id = vocabulary_->find(piece.substr(left.begin, left.length + right.length));
    if (id < 0) return false;
    rank = ranks_[static_cast<size_t>(id)];
    return true;
  };
  merge_symbols<float>(symbols, lookup, steps);
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
