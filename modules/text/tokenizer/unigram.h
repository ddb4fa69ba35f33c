// The unigram language model (Kudo 2018, "Subword Regularization"): of all ways to cut a piece into tokens, the one
// whose scores (logarithms of probabilities) have the highest sum, found by Viterbi's algorithm.
//
// A character that is no token by itself may be taken as unknown, for the lowest score of the vocabulary less 10;
// neighbouring unknown characters become one unknown token, or byte tokens where `byte_fallback` says so. Sums are kept
// in double and from the left, ties go to the token that begins first: equal texts then have equal ids in
// sentencepiece, `tokenizers` and llama.cpp. That is why a long piece must not be cut into words, which would round
// differently.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "text/tokenizer/model.h"
#include "text/tokenizer/token_trie.h"
#include "text/tokenizer/vocabulary.h"
#include "text/tokenizer/word_tokenizer.h"

namespace lathe {

struct UnigramOptions {
  int32_t unknown = Vocabulary::kNone;  // where there is none, a text with an unknown character is an Error
  double unknown_score = 0;
  bool byte_fallback = false;  // unknown characters become <0x00> to <0xFF> where the vocabulary has them all
};

class Unigram : public TokenModel {
 public:
  // `scores` by id, finite. `tokens`: the ids that may be found in a text. Throws Error for a score that is no number
  // and an id outside the vocabulary.
  Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores, const std::vector<int32_t>& tokens,
          UnigramOptions options);
  void tokenize(std::string_view piece, std::vector<int32_t>& ids) const override;
  std::vector<ModelStep> explain(std::string_view piece, std::vector<int32_t>& ids) const override;
  const char* measure() const override { return "log probability"; }

  // What one unknown character costs on top of the lowest score.
  static constexpr double kUnknownPenalty = 10;

 private:
  struct Stretch {
    size_t begin, end;
    int32_t id;  // of the token, or kNone: unknown characters
  };
  // The best cut of `piece`, from left to right.
  std::vector<Stretch> cut(std::string_view piece) const;
  // Appends the ids of one stretch.
  void append(std::string_view text, int32_t id, std::vector<int32_t>& ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<double> scores_;
  UnigramOptions options_;
  TokenTrie trie_;
  size_t window_;  // a power of two above the longest token and the longest character
  std::array<int32_t, 256> byte_ids_;
  WordTokenizer words_;
};

}  // namespace lathe
