// What a Tokenizer is made of, and the loaders that make it. Internal to modules/tokenizer.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/vocabulary.h"

namespace lathe {

struct TokenizerParts {
  std::string kind;
  std::shared_ptr<const Vocabulary> vocabulary;  // the model's own; tokens that were added to it are in `added`
  std::vector<AddedToken> added;
  std::unique_ptr<Normalizer> normalizer;       // may be null
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // may be null
  std::unique_ptr<TokenModel> model;
  std::unique_ptr<Decoder> decoder;
  std::map<int32_t, std::string> shown_as;  // what the decoder is given instead of the token's spelling
  std::vector<int32_t> before, after;       // the special tokens round a text
  bool reads_special = true;                // ParseSpecial::automatic
  std::optional<int32_t> bos, eos;
  std::map<std::string, std::string> named;  // the texts of special tokens by name: "bos_token", "image_token"
  std::vector<int32_t> end_of_turn;          // those that the file names, besides eos
  std::map<std::string, std::string> chat_templates;
  std::vector<std::string> warnings;

  // Made by Tokenizer from what stands above.
  TokenMatcher plain, normalized;
  std::map<int32_t, size_t> added_by_id;  // indices in `added`
  std::optional<std::string> chat_template;

  // The id of a token by its spelling, added ones first.
  int32_t find(std::string_view text) const;
};

class TokenizerConfig;

// One loader a form. `config` is what lies in the file's folder; `pattern` is --pattern, for the forms without one of
// their own.
TokenizerParts load_tokenizer_json(const std::string& path, const TokenizerConfig& config);
TokenizerParts load_gguf_vocabulary(const std::string& path);
TokenizerParts load_sentencepiece(const std::string& path, const TokenizerConfig& config);
TokenizerParts load_tekken(const std::string& path, const TokenizerConfig& config);
TokenizerParts load_tiktoken(const std::string& path, const TokenizerConfig& config, const std::string& pattern);
TokenizerParts load_vocabulary_and_merges(const std::string& path, const TokenizerConfig& config,
                                          const std::string& pattern);
TokenizerParts load_word_list(const std::string& path, const TokenizerConfig& config);

}  // namespace lathe
