// Files to ids, once: the result lies in the cache under a name made of the contents of the files, of the tokenizer and
// of the format. A later run with the same contents maps it and tokenises nothing.
#pragma once
#include <string>
#include <vector>

#include "train/data_files.h"
#include "train/data_tokenizer.h"
#include "train/token_shard.h"

namespace lathe {

// An .npy file of int32 by itself is mapped where it lies. Several documents each end with the tokenizer's end token,
// the only text of a list does not. Throws Error naming file and line.
Tokens tokenize_data(const std::vector<DataFile>& files, const DataRecipe& recipe, const DataTokenizer& tokenizer,
                     const DataOptions& options);

}  // namespace lathe
