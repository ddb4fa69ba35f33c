// The kinds of data sets: windows of one stream, documents packed into rows, pairs of documents.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "train/dataset.h"
#include "train/token_shard.h"

namespace lathe {

// Which row of an epoch a row of the run is.
struct RowOrder {
  bool shuffled = false;
  uint64_t seed = 0;

  // Of `count` rows of an epoch.
  int64_t row(int64_t of_run, int64_t count) const;
  std::string describe() const;
};

// What is counted of a target.
class TargetTable {
 public:
  // Of ids without a tokenizer (null) nothing but their number is known.
  explicit TargetTable(const Tokenizer* tokenizer);
  void count(int32_t target, Dataset::Counts& counts) const;

 private:
  std::vector<int32_t> bytes_;
  std::vector<bool> ends_turn_;
};

// Windows of ids [begin, end). With `ragged` the last one may be shorter, so that every id is a target but the first.
std::unique_ptr<Dataset> make_windows(Tokens tokens, int64_t begin, int64_t end, int64_t context, bool ragged,
                                      RowOrder order, const TargetTable& table);

struct DocumentOptions {
  int64_t context = 0;
  bool cuts = false;   // what is longer than the context is cut into pieces; else it loses its end
  bool pairs = false;  // a row is two documents, chosen and rejected; else as many as the context holds
  RowOrder order;
  // Of a record whose targets all lie beyond the context, by its first document: throws, or returns and leaves it out.
  std::function<void(const TokenDocument&)> without_target;
};
// Documents [begin, end). What is left out for the context is told in `notes`.
std::unique_ptr<Dataset> make_documents(Tokens tokens, int64_t begin, int64_t end, const DocumentOptions& options,
                                        const TargetTable& table, std::vector<std::string>& notes);

}  // namespace lathe
