// What lies beside a tokenizer in a Hugging Face folder: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json and chat templates. Internal to modules/tokenizer.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>

#include "tokenizer/json_node.h"
#include "tokenizer/tokenizer_parts.h"

namespace lathe {

class TokenAdder;

class TokenizerConfig {
 public:
  // Reads what there is in `folder`; without any of the files everything below is absent. Throws Error naming the file
  // when one is no JSON object.
  explicit TokenizerConfig(std::string folder);

  // tokenizer_config.json, an empty object where there is none.
  JsonNode settings() const { return {settings_, where("tokenizer_config.json")}; }
  // "GPT2Tokenizer", without the "Fast" at its end; empty where none is named.
  std::string tokenizer_class() const;
  // The special token that the files call `member`, "bos_token" for one: tokenizer_config.json has the last word.
  std::optional<std::string> named(const char* member) const;

  // For the forms that do not hold all of their tokens, which is every form but tokenizer.json: the tokens that the
  // files add to the vocabulary (added_tokens_decoder, else added_tokens.json) and the special ones that they name.
  void add_tokens(TokenizerParts& parts) const;
  // BOS, EOS, whether they go round a text, chat templates.
  void apply(TokenizerParts& parts) const;

 private:
  std::string where(const char* file) const;
  static void add_named(const JsonNode& node, TokenAdder& adder);
  std::optional<int32_t> special_token(const char* member, TokenizerParts& parts) const;

  std::string folder_;
  nlohmann::json settings_, special_map_, added_tokens_;
};

// Adds tokens to those of a vocabulary, each found at once by id and by content: a file may name very many.
class TokenAdder {
 public:
  explicit TokenAdder(TokenizerParts& parts);
  // In the place of the token that has the id, if there is one.
  void add(AddedToken token);
  // A special token that the vocabulary may have; nothing happens when it has not.
  void add_special(const std::string& content, bool lstrip = false);

 private:
  TokenizerParts& parts_;
  std::unordered_map<int32_t, size_t> by_id_;          // indices in parts_.added
  std::unordered_map<std::string, int32_t> contents_;  // their ids
};

}  // namespace lathe
