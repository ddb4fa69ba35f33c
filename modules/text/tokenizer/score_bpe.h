// Byte-pair encoding by what the joined text is: sentencepiece's of type BPE (the `llama` vocabularies of GGUF files)
// and tiktoken's.
//
// Two neighbours merge when the text of both together is a token; the pair whose token has the highest score, or the
// lowest rank, merges first. Symbols are stretches of text, not tokens: a character without a token of its own can
// still become part of one. What is left without a token is spelled in byte tokens <0x00> to <0xFF>.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "text/tokenizer/model.h"
#include "text/tokenizer/vocabulary.h"
#include "text/tokenizer/word_tokenizer.h"

namespace lathe {

class ScoreBpe : public TokenModel {
 public:
  enum class Order {
    score,  // the highest merges first
    rank,   // the lowest merges first, and a piece that is a token is that token, as tiktoken has it
  };
  // `weights`, scores or ranks, by id; ranks up to Vocabulary::kMaxSize are exact in a float. `unknown` stands for
  // bytes that have no token; when it is kNone too, they are dropped.
  ScoreBpe(std::shared_ptr<const Vocabulary> vocabulary, std::vector<float> weights, int32_t unknown,
           Order order = Order::score);
  void tokenize(std::string_view piece, std::vector<int32_t>& ids) const override;
  std::vector<ModelStep> explain(std::string_view piece, std::vector<int32_t>& ids) const override;
  const char* measure() const override { return order_ == Order::rank ? "rank" : "score"; }

 private:
  int32_t whole(std::string_view piece) const;  // the id of a piece that is taken as it is
  void merge(std::string_view piece, std::vector<int32_t>& ids, std::vector<ModelStep>* steps = nullptr) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<float> ranks_;  // by id; a score's is its negative
  Order order_;
  std::array<int32_t, 256> byte_ids_;
  WordTokenizer words_;
};

}  // namespace lathe
