#include "text/tokenizer/bpe.h"

#include <algorithm>

#include "formats/quote.h"
#include "tensor/errors.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

void MergeList::add(std::string_view left, std::string_view right) {
  text_.append(left).append(right);
  lengths_.push_back({static_cast<uint32_t>(left.size()), static_cast<uint32_t>(right.size())});
}

void MergeList::add_line(std::string_view line) {
  const size_t space = line.find(' ');
  check(space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos, "merges",
        "rule {} is {}, expected two tokens with one space between", size() + 1, quote(line));
  add(line.substr(0, space), line.substr(space + 1));
}

Bpe::Bpe(std::shared_ptr<const Vocabulary> vocabulary, const MergeList& merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)), words_(*vocabulary_) {
  for (int byte = 0; byte < 256; ++byte)
    byte_ids_[static_cast<size_t>(byte)] = vocabulary_->find(fmt::format("<0x{:02X}>", byte));
  all_bytes_ = std::all_of(byte_ids_.begin(), byte_ids_.end(), [](int32_t id) { return id >= 0; });
  index(merges);
}

size_t Bpe::slot_of(uint64_t pair) const {
  const size_t mask = rules_.size() - 1;
  size_t slot = (pair * 0x9E3779B97F4A7C15u >> 32) & mask;  // Fibonacci hashing (Knuth, volume 3, section 6.4)
  while (rules_[slot].pair != pair && rules_[slot].pair != kEmpty) slot = (slot + 1) & mask;
  return slot;
}

void Bpe::index(const MergeList& merges) {
  size_t slots = 16;
  while (slots < 2 * merges.size()) slots *= 2;
  rules_.assign(slots, {kEmpty, 0, 0});
  std::string merged;
  std::string_view rest = merges.text_;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left_length, right_length] = merges.lengths_[rank];
    const std::string_view left = rest.substr(0, left_length);
    const std::string_view right = rest.substr(left_length, right_length);
    rest.remove_prefix(left_length + right_length);
    const size_t prefix = options_.continuing_subword_prefix.size();
    check(right_length >= prefix, "merges", "rule {}, {} and {}: the second is shorter than the prefix {}", rank + 1,
          quote(left), quote(right), quote(options_.continuing_subword_prefix));
    merged.assign(left).append(right.substr(prefix));
    const int32_t left_id = vocabulary_->find(left), right_id = vocabulary_->find(right);
    const int32_t id = vocabulary_->find(merged);
    if (left_id < 0 || right_id < 0 || id < 0) {
      if (options_.skip_foreign_merges) continue;
      throw Error(fmt::format("merges: rule {}, {} and {}: the vocabulary has no token {}", rank + 1, quote(left),
                              quote(right),
                              quote(left_id < 0    ? left
                                    : right_id < 0 ? right
                                                   : merged)));
    }
    // Of a rule that comes twice the last rank counts, as in the reference's table.
    const uint64_t pair = pair_of(left_id, right_id);
    rules_[slot_of(pair)] = {pair, static_cast<uint32_t>(rank), id};
  }
}

void Bpe::split(std::string_view piece, std::vector<Symbol>& symbols) const {
  std::string spelled;
  bool fusing = false;  // whether the last symbol is an unknown one that the next may join
  for (size_t begin = 0; begin < piece.size();) {
    const size_t length = std::min(character_length(piece[begin]), piece.size() - begin);
    std::string_view character = piece.substr(begin, length);
    const bool prefixed = begin > 0 && !options_.continuing_subword_prefix.empty();
    const bool suffixed = begin + length == piece.size() && !options_.end_of_word_suffix.empty();
    if (prefixed || suffixed) {
      spelled.clear();
      if (prefixed) spelled += options_.continuing_subword_prefix;
      spelled += character;
      if (suffixed) spelled += options_.end_of_word_suffix;
      character = spelled;
    }
    const auto place = static_cast<uint32_t>(begin);
    auto add = [&](int32_t id, size_t offset, size_t bytes) {
      symbols.push_back({id, place + static_cast<uint32_t>(offset), static_cast<uint32_t>(bytes), -1, -1});
    };
    auto has_byte = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)] >= 0; };
    const int32_t id = vocabulary_->find(character);
    if (id >= 0) {
      add(id, 0, length);
      fusing = false;
    } else if (options_.byte_fallback && std::all_of(character.begin(), character.end(), has_byte)) {
      fusing = false;
      for (size_t i = 0; i < character.size(); ++i) add(byte_ids_[static_cast<unsigned char>(character[i])], i, 1);
    } else if (options_.unknown >= 0) {
      if (fusing && options_.fuse_unknown) {
        symbols.back().length += static_cast<uint32_t>(length);
      } else {
        add(options_.unknown, 0, length);
      }
      fusing = true;
    }
    begin += length;
  }
}

void Bpe::merge(std::string_view piece, std::vector<int32_t>& ids, std::vector<ModelStep>* steps) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  split(piece, symbols);
  link(symbols);
  const auto lookup = [&](const Symbol& left, const Symbol& right, uint32_t& rank, int32_t& id) {
    const Rule& rule = rules_[slot_of(pair_of(left.id, right.id))];
    rank = rule.rank;
    id = rule.id;
    return rule.pair != kEmpty;
  };
  merge_symbols<uint32_t>(symbols, lookup, steps);
  for (const Symbol& symbol : symbols)
    if (symbol.length) ids.push_back(symbol.id);
}

int32_t Bpe::whole(std::string_view piece) const {
  return options_.ignore_merges ? vocabulary_->find(piece) : Vocabulary::kNone;
}

std::vector<ModelStep> Bpe::explain(std::string_view piece, std::vector<int32_t>& ids) const {
  std::vector<ModelStep> steps;
  if (const int32_t id = whole(piece); id >= 0) {
    ids.push_back(id);
    steps.push_back({ModelStep::Kind::token, 0, 0, piece.size(), id});
  } else {
    merge(piece, ids, &steps);
  }
  return steps;
}

void Bpe::tokenize(std::string_view piece, std::vector<int32_t>& ids) const {
  if (const int32_t id = whole(piece); id >= 0) return ids.push_back(id);
  // Affixes depend on where in the piece a character stands, and where unknown characters vanish, tokens that do not
  // touch in the text may merge: such a piece stays whole.
  const bool affixes = !options_.continuing_subword_prefix.empty() || !options_.end_of_word_suffix.empty();
  const bool vanish = options_.unknown < 0 && !(options_.byte_fallback && all_bytes_);
  words_.tokenize(piece, !affixes && !vanish, ids,
                  [this](std::string_view word, std::vector<int32_t>& out) { merge(word, out); });
}

std::optional<PublishedModel> Bpe::publish() const {
  if (!options_.continuing_subword_prefix.empty() || !options_.end_of_word_suffix.empty()) return std::nullopt;
  std::vector<const Rule*> rules;
  for (const Rule& rule : rules_)
    if (rule.pair != kEmpty) rules.push_back(&rule);
  std::sort(rules.begin(), rules.end(), [](const Rule* a, const Rule* b) { return a->rank < b->rank; });
  PublishedModel model;
  for (const Rule* rule : rules) {
    const auto left = static_cast<int32_t>(rule->pair >> 32), right = static_cast<int32_t>(rule->pair & 0xffffffffu);
    model.merges.push_back(std::string(vocabulary_->text(left)) + " " + std::string(vocabulary_->text(right)));
    model.results.push_back(rule->id);
  }
  model.unknown = options_.unknown;
  model.byte_fallback = options_.byte_fallback;
  model.ignore_merges = options_.ignore_merges;
  return model;
}

}  // namespace lathe
