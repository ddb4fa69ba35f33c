// What rewrites the text before it is split: the `normalizer` of tokenizer.json.
#pragma once
#include <memory>
#include <string>

#include "tokenizer/json_node.h"

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

}  // namespace lathe
