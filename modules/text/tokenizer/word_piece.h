// Models that know words: WordPiece (BERT: the longest token that the rest of the word begins with, again and again;
// Schuster and Nakajima 2012, as in google-research/bert) and WordLevel (a word is a token or unknown).
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer/model.h"
#include "text/tokenizer/vocabulary.h"
#include "text/tokenizer/word_tokenizer.h"

namespace lathe {

class WordPiece : public TokenModel {
 public:
  // `word_prefix` is put before a word, `continuing_prefix` before each later part of it, for the search alone. A word
  // of more than `max_characters` is unknown, and so is one of which any part is.
  WordPiece(std::shared_ptr<const Vocabulary> vocabulary, int32_t unknown, std::string continuing_prefix,
            int64_t max_characters, std::string word_prefix = {});
  void tokenize(std::string_view word, std::vector<int32_t>& ids) const override;
  std::vector<ModelStep> explain(std::string_view word, std::vector<int32_t>& ids) const override;

 private:
  struct Part {
    size_t begin, end;  // bytes of the word
    int32_t id;
  };
  std::vector<Part> cut(std::string_view word) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  int32_t unknown_;
  std::string word_prefix_, continuing_prefix_;
  int64_t max_characters_;
  size_t longest_;  // token, in bytes
  WordTokenizer words_;
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
