// How a vocabulary of bytes that holds no pattern of its own cuts text: what rank files and vocab.json with merges.txt
// leave to a program, and --pattern gives.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "text/tokenizer/tokenizer_parts.h"

namespace lathe {

struct ByteLevelScheme {
  std::string name;     // "gpt2", "llama3", "qwen"; "" for a user's own pattern
  std::string pattern;  // its matches, and what lies between them, are the pieces
  bool nfc = false;     // the text is brought into normal form C first
};

// By its name, or a regular expression as it is. Throws Error for a plain word that is no name: that would be a pattern
// which splits nothing, and is a misspelling.
ByteLevelScheme find_byte_level_scheme(const std::string& name_or_pattern);

// Sets what the scheme decides, normaliser and pre-tokeniser, and the decoder of bytes.
void apply_byte_level_scheme(const ByteLevelScheme& scheme, bool add_prefix_space, TokenizerParts& parts);

// Makes the byte-level decoder show the added tokens as they are: it takes what it is given for GPT-2's spelling of
// bytes.
void show_added_tokens_as_bytes(TokenizerParts& parts);

// tiktoken's model of a vocabulary in GPT-2's spelling whose ids from `first_id` on are ranks. Throws Error unless each
// of the 256 bytes is a token.
std::unique_ptr<TokenModel> make_rank_bpe(std::shared_ptr<const Vocabulary> vocabulary, int64_t first_id);

}  // namespace lathe
