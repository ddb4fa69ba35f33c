// What `lathe tokenize` and `lathe detokenize` share: which tokenizer, and JSON Lines in and out.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tokenizer/tokenizer.h"

namespace lathe {

class Command;

struct TokenizerOptions {
  std::string model, tokenizer, pattern, batch;

  void declare(const Command& command);
  std::shared_ptr<const Tokenizer> load() const;
};

// Calls f with every line of a JSON Lines file, parsed; names file and line where one is no JSON or f throws.
void for_each_line(const std::string& path, const std::function<void(const nlohmann::json&)>& f);

// One line; bytes that are no UTF-8 become U+FFFD.
std::string dump_line(const nlohmann::ordered_json& json);

}  // namespace lathe
