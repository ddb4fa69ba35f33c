// Files to ids, once: the result lies in the cache under a name made of the contents of the files, of the tokenizer and
// of the format. A later run with the same contents maps it and tokenises nothing.
#pragma once
#include <string>
#include <vector>

#include "train/data_files.h"
#include "train/data_tokenizer.h"
#include "train/token_shard.h"

namespace lathe {

// Documents are texts, records, or of preferences the chosen and the rejected answer in turn. Each ends with the
// tokenizer's end token, but for a conversation, which its template ends, and a text that is the only one. An .npy file
// of int32 by itself is mapped where it lies. Throws Error naming file and line.
Tokens tokenize_data(const std::vector<DataFile>& files, const DataRecipe& recipe, const DataTokenizer& tokenizer,
                     const DataOptions& options);

}  // namespace lathe
