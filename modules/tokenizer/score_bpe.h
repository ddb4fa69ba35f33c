// Byte-pair encoding by score: the `llama` vocabularies of GGUF files, made from sentencepiece models of type BPE.
//
// Two neighbours merge when the text of both together is a token; the pair whose token has the highest score merges
// first. Symbols are stretches of text, not tokens: a character without a token of its own can still become part of
// one. What is left without a token is spelled in byte tokens <0x00> to <0xFF>.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "tokenizer/model.h"
#include "tokenizer/vocabulary.h"
#include "tokenizer/word_tokenizer.h"

namespace lathe {

class ScoreBpe : public TokenModel {
 public:
  // `scores` by id. `unknown` stands for bytes that have no token; when it is kNone too, they are dropped.
  ScoreBpe(std::shared_ptr<const Vocabulary> vocabulary, std::vector<float> scores, int32_t unknown);
  void tokenize(std::string_view piece, std::vector<int32_t>& ids) const override;

 private:
  void merge(std::string_view piece, std::vector<int32_t>& ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<float> scores_;
  std::array<int32_t, 256> byte_ids_;
  WordTokenizer words_;
};

}  // namespace lathe
