// The special tokens that go round a text: the `post_processor` of tokenizer.json.
#pragma once
#include <cstdint>
#include <vector>

#include "formats/json_node.h"

namespace lathe {

struct SpecialTokensAround {
  std::vector<int32_t> before, after;
};

// Throws Error for a type that is not supported, and for a template that does not hold its text exactly once.
SpecialTokensAround read_post_processor(const JsonNode& node);

}  // namespace lathe
