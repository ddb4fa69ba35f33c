#include "text/tokenizer/unigram.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "formats/quote.h"
#include "tensor/errors.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

// In place of an id, where the best path ends so far.
constexpr int32_t kNowhere = -1;           // no path
constexpr int32_t kUnknownCharacter = -2;  // a path that ends with one unknown character

std::vector<std::pair<std::string_view, int32_t>> spelled(const Vocabulary& vocabulary,
                                                          const std::vector<int32_t>& tokens) {
  std::vector<std::pair<std::string_view, int32_t>> list;
  list.reserve(tokens.size());
  for (int32_t id : tokens) list.emplace_back(vocabulary.text(id), id);
  return list;
}

size_t window_of(const Vocabulary& vocabulary, const std::vector<int32_t>& tokens) {
  size_t longest = 4;
  for (int32_t id : tokens) longest = std::max(longest, vocabulary.text(id).size());
  return std::bit_ceil(longest + 1);
}

}  // namespace

Unigram::Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores,
                 const std::vector<int32_t>& tokens, UnigramOptions options)
    : vocabulary_(std::move(vocabulary)),
      scores_(std::move(scores)),
      options_(options),
      trie_(spelled(*vocabulary_, tokens)),
      window_(window_of(*vocabulary_, tokens)),
      words_(*vocabulary_) {
  const int64_t size = vocabulary_->size();
  check(static_cast<int64_t>(scores_.size()) == size, "unigram", "{} scores for {} tokens", scores_.size(), size);
  for (size_t id = 0; id < scores_.size(); ++id)
    check(std::isfinite(scores_[id]), "unigram", "the score of token {} is {}, expected a finite number", id,
          scores_[id]);
  check(options_.unknown < size, "unigram", "the unknown token is {}, the vocabulary has {} tokens", options_.unknown,
        size);
  for (int byte = 0; byte < 256; ++byte)
    byte_ids_[static_cast<size_t>(byte)] = vocabulary_->find(fmt::format("<0x{:02X}>", byte));
}

std::vector<Unigram::Stretch> Unigram::cut(std::string_view piece) const {
  // Where paths may end: the last token of the best path to there; the sums matter only within reach of a token.
  std::vector<int32_t> last(piece.size() + 1, kNowhere);
  std::vector<double> sums(std::min(window_, std::bit_ceil(piece.size() + 1)));
  const size_t mask = sums.size() - 1;
  sums[0] = 0;
  for (size_t begin = 0; begin < piece.size();) {
    const double sum = sums[begin & mask];
    const size_t character = std::min(character_length(piece[begin]), piece.size() - begin);
    bool known = false;
    auto offer = [&](size_t end, int32_t id, double candidate) {
      if (last[end] != kNowhere && !(candidate > sums[end & mask])) return;
      last[end] = id;
      sums[end & mask] = candidate;
    };
    trie_.each_prefix(piece.substr(begin), [&](size_t length, int32_t id) {
      known = known || length == character;
      offer(begin + length, id, sum + scores_[static_cast<size_t>(id)]);
    });
    if (!known) offer(begin + character, kUnknownCharacter, sum + options_.unknown_score);
    begin += character;
  }
  std::vector<Stretch> stretches;
  for (size_t end = piece.size(); end > 0;) {
    const int32_t id = last[end];
    const size_t begin = id == kUnknownCharacter ? previous_character(piece, end) : end - vocabulary_->text(id).size();
    const bool unknown = id == kUnknownCharacter || id == options_.unknown;  // the text of the unknown token joins too
    if (unknown && !stretches.empty() && stretches.back().id == Vocabulary::kNone) {
      stretches.back().begin = begin;
    } else {
      stretches.push_back({begin, end, unknown ? Vocabulary::kNone : id});
    }
    end = begin;
  }
  std::reverse(stretches.begin(), stretches.end());
  return stretches;
}

void Unigram::append(std::string_view text, int32_t id, std::vector<int32_t>& ids) const {
  auto byte_id = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
  // Unknown characters may together spell a token: the unknown one, or one of a score so low that it lost.
  if (id < 0)
    trie_.each_prefix(text, [&](size_t length, int32_t whole) {
      if (length == text.size()) id = whole;
    });
  if (id >= 0) {
    ids.push_back(id);
  } else if (options_.byte_fallback &&
             std::all_of(text.begin(), text.end(), [&](char byte) { return byte_id(byte) >= 0; })) {
    for (char byte : text) ids.push_back(byte_id(byte));
  } else if (options_.unknown >= 0) {
    ids.push_back(options_.unknown);
  } else {
    throw Error(fmt::format("unigram: {} is no token, and the vocabulary names no unknown token", quote(text)));
  }
}

void Unigram::tokenize(std::string_view piece, std::vector<int32_t>& ids) const {
  words_.tokenize(piece, false, ids, [this](std::string_view word, std::vector<int32_t>& out) {
    for (const Stretch& stretch : cut(word))
      append(word.substr(stretch.begin, stretch.end - stretch.begin), stretch.id, out);
  });
}

std::vector<ModelStep> Unigram::explain(std::string_view piece, std::vector<int32_t>& ids) const {
  std::vector<ModelStep> steps;
  for (const Stretch& stretch : cut(piece)) {
    const std::string_view text = piece.substr(stretch.begin, stretch.end - stretch.begin);
    const size_t before = ids.size();
    append(text, stretch.id, ids);
    const bool bytes = ids.size() - before > 1;
    for (size_t i = before; i < ids.size(); ++i) {
      const size_t begin = bytes ? stretch.begin + (i - before) : stretch.begin;
      steps.push_back({ModelStep::Kind::token, begin, begin, bytes ? begin + 1 : stretch.end, ids[i],
                       stretch.id >= 0 ? scores_[static_cast<size_t>(stretch.id)] : options_.unknown_score});
    }
  }
  return steps;
}

}  // namespace lathe
