// A vocabulary as GGUF holds it: the way back from tokenizer_gguf.cpp.
#pragma once
#include <string>
#include <vector>

#include "formats/gguf.h"

namespace lathe {

// tokenizer.ggml.token_type.
enum TokenType : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct WrittenVocabulary {
  GgufMetadata metadata;             // `tokenizer.*`
  std::vector<std::string> remarks;  // what a user should know of it
};

// The vocabulary of a Hugging Face folder for a model of `vocab_size` rows; rows without a token get a name of their
// own. Byte-level BPE becomes kind `gpt2`; BPE with byte tokens, whether by scores or by ranks, kind `llama`. A folder
// without a vocabulary gives kind `none`, and so does, with a remark, one of a kind that is not written.
WrittenVocabulary gguf_vocabulary(const std::string& folder, int64_t vocab_size);

// Whether the two files read a sample of hard texts as the same ids; empty where they do, else the first text that
// differs.
std::string vocabulary_difference(const std::string& path, const std::string& other);

}  // namespace lathe
