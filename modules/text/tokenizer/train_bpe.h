// Byte-level byte-pair encoding learnt from text (Sennrich et al. 2016), with the merges that the Python library
// `tokenizers` finds by BpeTrainer behind its ByteLevel pre-tokeniser, without a space put before the text.
//
// Text is cut at the ends of lines, which stay with their line, and then by GPT-2's pattern; words are counted, and the
// pair of tokens that occurs most often becomes a token until there are enough, of equal ones the one with the smaller
// ids. Ids: special tokens, the 256 bytes in the order of GPT-2's spelling, merges. A merge whose text is a token
// already, a special one for instance, makes that token.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/vocabulary.h"
#include "text/tokenizer/write_tokenizer.h"

namespace lathe {

struct BpeTrainerOptions {
  int64_t vocab_size = 0;  // all tokens together
  std::vector<std::string> special_tokens = {"<|endoftext|>"};
  int64_t min_frequency = 0;  // of a pair that merges
};

class BpeTrainer {
 public:
  BpeTrainer();
  // Counts the words of a text. Throws Error where it is not valid UTF-8.
  void add(std::string_view text);
  // Fewer tokens than asked for where no pair is left that occurs often enough. Throws Error where the size leaves no
  // room for the bytes.
  NewVocabulary train(const BpeTrainerOptions& options) const;

 private:
  std::unique_ptr<PreTokenizer> words_of_;
  Vocabulary words_;             // in bytes
  std::vector<int64_t> counts_;  // by id of the word
};

}  // namespace lathe
