// What a model is trained on, as an endless sequence of rows.
//
// A row is at most `context` tokens and their targets: a window of a text, or whole records packed one after another,
// which do not see each other; of preferences two records, the chosen answer and the rejected one. Row r of a run is a
// function of the recipe and r alone, so a position in the data is one number, ranks take rows without a word to each
// other, and a resumed run reads what an unbroken one would have.
//
//   .txt, .npy                 one stream of ids, cut into windows of context + 1 ids, `context` apart
//   .jsonl, format text        documents, packed; what is longer than the context is cut into pieces
//   completion, chat           records, packed; what is longer than the context loses its end
//   preference                 pairs, one a row
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer/tokenizer.h"
#include "train/recipe.h"

namespace lathe {

// Some rows, as the model takes them.
struct TrainingRows {
  std::vector<int32_t> tokens;     // (N)
  std::vector<int32_t> targets;    // (N): the token that follows, kIgnoredTarget where none is learnt
  std::vector<int32_t> seq_start;  // (S + 1): where each document, or piece of one, begins
  std::vector<int64_t> pieces;     // (S): its number, the same in every epoch; of a pair 2k (chosen) and 2k + 1
  int64_t target_count = 0;
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  // Rows [first, first + count) of the endless sequence; each epoch has all of its rows once.
  virtual TrainingRows rows(int64_t first, int64_t count) const = 0;
  virtual int64_t rows_per_epoch() const = 0;
  // Of one epoch: tokens, targets, those targets that end a turn, and the bytes of text that the targets stand for (0:
  // not known, as for ids from a .npy file).
  struct Counts {
    int64_t tokens = 0, targets = 0, end_of_turn_targets = 0, bytes = 0;
  };
  virtual Counts counts() const = 0;
  // Of the ids, in order, and of how rows are cut, in words: what a checkpoint is compared by when a run goes on.
  virtual const std::string& key() const = 0;
};

// What a run learns from and is measured on, and the vocabulary of both.
struct TrainingData {
  std::unique_ptr<Dataset> train;
  std::unique_ptr<Dataset> validation;         // null: none
  std::shared_ptr<const Tokenizer> tokenizer;  // null: the data are ids
  std::string tokenizer_folder;                // whose files go with the model; empty: none
  int64_t vocab_size = 0;                      // ids lie below; of the tokenizer, or the largest id + 1
  std::vector<std::string> notes;              // what a user should know, one line each (lines skipped, say)
};

struct DataOptions {
  int64_t context = 256;
  uint64_t seed = 1337;
  std::string cache;       // folder for token shards and for a tokenizer that the data make; made where it is missing
  std::string checkpoint;  // whose tokenizer is used where the recipe names none; empty: none
  bool skip_bad_lines = false;
};
// Throws Error naming the file and the line of what cannot be used, and what would fit.
TrainingData open_data(const DataRecipe& recipe, const DataOptions& options);

}  // namespace lathe
