// What rewrites the text before it is split: the `normalizer` of tokenizer.json.
#pragma once
#include <memory>
#include <string>

#include "formats/json_node.h"
#include "text/tokenizer/charsmap.h"

namespace lathe {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(std::string& text) const = 0;  // valid UTF-8 in, valid UTF-8 out
};

// The normaliser that `node` describes, null for JSON's null. Throws Error for a type that is not supported, by name.
std::unique_ptr<Normalizer> make_normalizer(const JsonNode& node);

// What GGUF files of kind `llama` imply: every stretch of text begins with U+2581 when `prefix` is set, and every space
// becomes U+2581.
std::unique_ptr<Normalizer> make_space_escaper(bool prefix);

// What GGUF files of kind `t5` imply: the rules of `charsmap`, the longest match first; U+2581 for spaces and before
// the text (`prefix`); runs of spaces as one and none at the end (`merge_spaces`).
std::unique_ptr<Normalizer> make_unigram_normalizer(Charsmap charsmap, bool prefix, bool merge_spaces);

// What GGUF files of kind `bert` imply: controls are dropped, and with `strip_accents` all marks, after decomposition.
std::unique_ptr<Normalizer> make_word_normalizer(bool lower, bool strip_accents);

}  // namespace lathe
