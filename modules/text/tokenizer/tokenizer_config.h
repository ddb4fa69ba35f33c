// What lies beside a tokenizer in a Hugging Face folder: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json and chat templates. Internal to modules/tokenizer.
//
// The tokens that these files add are merged as the reference does (transformers 5, TokenizersBackend and what it calls
// before; `tokenizers`, AddedVocabulary): first the listed ones (added_tokens_decoder; where there is none,
// added_tokens.json), in the order of their ids; then the special ones that have a name (bos_token, ...), then the
// further ones, where they were not listed. special_tokens_map.json counts only where there is no
// added_tokens_decoder, and then before tokenizer_config.json.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "formats/json_node.h"
#include "text/tokenizer/tokenizer_parts.h"

namespace lathe {

// A special token and its name, "bos_token" for one.
using NamedToken = std::pair<std::string, AddedToken>;

class TokenizerConfig {
 public:
  // Reads what there is in `folder`; without any of the files everything below is absent. Throws Error naming the file
  // and the key when one is no JSON object, or holds something that is no token.
  explicit TokenizerConfig(std::string folder);

  // tokenizer_config.json, an empty object where there is none.
  JsonNode settings() const { return {settings_, where("tokenizer_config.json")}; }
  // "GPT2Tokenizer", without the "Fast" at its end; empty where none is named.
  std::string tokenizer_class() const;
  // The text of the special token that the files call `member`, "bos_token" for one.
  std::optional<std::string> named(const char* member) const;

  // What the ids of listed tokens mean: an order alone, as `tokenizers` has it (a token has its id of the vocabulary,
  // or the next that is free), or the ids that tokens which the vocabulary lacks get.
  enum class ListedIds { order, ids };
  // Adds the tokens of the files to `parts`, and `usual` special ones under names that the files do not have.
  void add_tokens(TokenizerParts& parts, ListedIds ids, std::vector<NamedToken> usual = {}) const;
  // BOS, EOS, whether they go round a text, chat templates.
  void apply(TokenizerParts& parts) const;

 private:
  std::string where(const char* file) const;
  void read_listed();
  void read_special(const JsonNode& node, bool is_map);
  void name(const std::string& name, AddedToken token);

  std::string folder_;
  nlohmann::json settings_;
  std::vector<AddedToken> listed_;   // ascending by id
  bool listed_in_settings_ = false;  // by added_tokens_decoder, and not by added_tokens.json
  std::vector<NamedToken> named_;
  std::optional<std::vector<AddedToken>> further_;
};

// Adds tokens to those of a vocabulary, each found at once by id and by content: a file may name very many.
class TokenAdder {
 public:
  explicit TokenAdder(TokenizerParts& parts);
  const std::unordered_map<std::string, int32_t>& ids() const { return ids_; }  // by content
  // Gives a token the id that its text has, or `token.id` (which is then that of no other token, or becomes its), or
  // where that is negative the next that is free. A token that was added before gets the new flags; what was special
  // stays so, and what was searched in the text as it is.
  void add(AddedToken token);

 private:
  TokenizerParts& parts_;
  std::unordered_map<int32_t, size_t> by_id_;     // indices in parts_.added
  std::unordered_map<std::string, int32_t> ids_;  // of their contents
  int64_t next_ = 0;                              // behind the vocabulary and all that was added
};

}  // namespace lathe
