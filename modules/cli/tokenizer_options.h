// What `lathe tokenize` and `lathe detokenize` share: which tokenizer, and JSON Lines in and out.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/json_file.h"
#include "formats/json_node.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

class Command;

struct TokenizerOptions {
  std::string model, tokenizer, pattern, batch;

  void declare(const Command& command);
  std::shared_ptr<const Tokenizer> load() const;
};

// Calls f with every line of a JSON Lines file; names file and line where one is no JSON or f throws.
void for_each_line(const std::string& path, const std::function<void(const OrderedJsonNode&)>& f);

}  // namespace lathe
