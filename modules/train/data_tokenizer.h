// The tokenizer of a run: the one that its recipe names, the checkpoint's own, or one that the data make.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer/tokenizer.h"
#include "train/data_files.h"
#include "train/dataset.h"

namespace lathe {

struct DataTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;  // null: none, for ids
  std::string folder;                          // with its files; empty: none that a Hugging Face folder could have
  std::string hash;                            // of all that decides which ids a text becomes
  std::optional<int32_t> end;                  // what a document ends with
};

// Characters are those of all files, merges are learnt from the training files. Throws Error where text has no
// tokenizer.
DataTokenizer choose_tokenizer(const DataRecipe& recipe, const DataOptions& options, const std::vector<DataFile>& train,
                               const std::vector<DataFile>& all);

}  // namespace lathe
