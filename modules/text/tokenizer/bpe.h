// Byte-pair encoding by merge rank (Sennrich et al. 2016), as the Python library `tokenizers` does it.
//
// Works on characters of the piece; that the pieces of GPT-2's kind are bytes spelled as characters is the business of
// the byte-level pre-tokeniser. A character that the vocabulary lacks becomes byte tokens (`byte_fallback`), else the
// unknown token, else nothing, silently: that is the reference's rule.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/model.h"
#include "text/tokenizer/symbol_merger.h"
#include "text/tokenizer/vocabulary.h"
#include "text/tokenizer/word_tokenizer.h"

namespace lathe {

// The merge rules in the order of their ranks.
class MergeList {
 public:
  void add(std::string_view left, std::string_view right);
  // One line of merges.txt or of a GGUF file: two tokens with one space between. Throws Error for any other form.
  void add_line(std::string_view line);
  size_t size() const { return lengths_.size(); }

 private:
  friend class Bpe;
  std::string text_;                              // left, right, left, right, ...
  std::vector<std::array<uint32_t, 2>> lengths_;  // of left and right
};

struct BpeOptions {
  int32_t unknown = Vocabulary::kNone;
  bool fuse_unknown = false;
  bool byte_fallback = false;
  bool ignore_merges = false;        // a piece that is a token is that token, whatever the merges say
  bool skip_foreign_merges = false;  // drop rules of tokens that the vocabulary lacks instead of refusing the file
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
};

class Bpe : public TokenModel {
 public:
  // Throws Error for a rule whose tokens or whose result the vocabulary lacks.
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, const MergeList& merges, BpeOptions options);
  void tokenize(std::string_view piece, std::vector<int32_t>& ids) const override;
  std::vector<ModelStep> explain(std::string_view piece, std::vector<int32_t>& ids) const override;
  std::optional<PublishedModel> publish() const override;
  const char* measure() const override { return "rank"; }

 private:
  struct Rule {
    uint64_t pair;  // left id in the high half, right id in the low; kEmpty in an unused slot
    uint32_t rank;
    int32_t id;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};

  size_t slot_of(uint64_t pair) const;
  void index(const MergeList& merges);
  void split(std::string_view piece, std::vector<Symbol>& symbols) const;
  int32_t whole(std::string_view piece) const;  // the id of a piece that is taken as it is
  void merge(std::string_view piece, std::vector<int32_t>& ids, std::vector<ModelStep>* steps = nullptr) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BpeOptions options_;
  std::array<int32_t, 256> byte_ids_;  // of <0x00> to <0xFF>
  bool all_bytes_;                     // whether the vocabulary has them all
  std::vector<Rule> rules_;            // open addressing, a power of two, at most half full
  WordTokenizer words_;
};

}  // namespace lathe
