// The pre-tokenisers that GGUF files name: `tokenizer.ggml.pre` of byte-level vocabularies.
//
// The patterns are part of the format: a file holds only a name, and what it means is what llama.cpp does for it
// (src/llama-vocab.cpp, llm_tokenizer_bpe).
#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "text/tokenizer/pre_tokenizer.h"

namespace lathe {

struct GgufPreTokenizer {
  std::vector<const char*> names;
  std::vector<const char*> patterns;  // applied one after another, each isolates its matches
  bool ignore_merges = false;
  bool add_bos = false;  // where the file does not say
  bool escaped = false;  // spaces become U+2581 and bytes are not spelled as characters, as in the kind `gemma4`
};

// All that are known.
const std::vector<GgufPreTokenizer>& gguf_pre_tokenizers();
// What cuts text as `known` does, byte-level: its patterns, then the bytes spelled as characters.
std::unique_ptr<PreTokenizer> make_gguf_pre_tokenizer(const GgufPreTokenizer& known);

// Null when the name is not known.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);

}  // namespace lathe
