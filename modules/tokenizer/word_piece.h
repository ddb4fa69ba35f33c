// Models that know words: WordPiece (BERT: the longest token that the rest of the word begins with, again and again;
// Schuster and Nakajima 2012, as in google-research/bert) and WordLevel (a word is a token or unknown).
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tokenizer/model.h"
#include "tokenizer/vocabulary.h"

namespace lathe {

class WordPiece : public TokenModel {
 public:
  // A word of more than `max_characters` is unknown, and so is one of which any part is.
  WordPiece(std::shared_ptr<const Vocabulary> vocabulary, int32_t unknown, std::string continuing_prefix,
            int64_t max_characters);
  void tokenize(std::string_view word, std::vector<int32_t>& ids) const override;

 private:
  std::shared_ptr<const Vocabulary> vocabulary_;
  int32_t unknown_;
  std::string continuing_prefix_;
  int64_t max_characters_;
  size_t longest_;  // token, in bytes
};

class WordLevel : public TokenModel {
 public:
  WordLevel(std::shared_ptr<const Vocabulary> vocabulary, int32_t unknown);
  void tokenize(std::string_view word, std::vector<int32_t>& ids) const override;

 private:
  std::shared_ptr<const Vocabulary> vocabulary_;
  int32_t unknown_;
};

}  // namespace lathe
