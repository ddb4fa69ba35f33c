// Log-probabilities in the two shapes of OpenAI's API.
#pragma once
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "generate/sampler.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

// A finite number: what is less than -9999 (minus infinity too) is -9999, as OpenAI has it.
double finite_logprob(float logprob);

// An entry of a chat's content[]: {"token", "logprob", "bytes", "top_logprobs": [...]}.
nlohmann::ordered_json chat_logprob(const Tokenizer& tokenizer, const TokenLogprobs& of);

// A token's text. Part of a character has none: its bytes are spelled out, "bytes:\\xe2\\x82", so that different tokens
// stay different. Without a tokenizer: "token_id:7".
std::string token_spelling(const Tokenizer* tokenizer, int32_t token);

// The legacy shape: tokens, token_logprobs, top_logprobs and text_offset are lists of equal length. Offsets count
// characters of the choice's text from its beginning, over all chunks of a stream. With `ids` also token_ids, and
// top_token_ids: the id of each key of top_logprobs.
class LegacyLogprobs {
 public:
  explicit LegacyLogprobs(const Tokenizer* tokenizer, bool ids = false);

  // A prompt's first token, which has no probability: null. `shown`: whether its text is part of the choice's.
  void add_first(int32_t token, bool shown);
  void add(const TokenLogprobs& of);
  // What was added since the last call.
  nlohmann::ordered_json take();

 private:
  nlohmann::ordered_json empty_lists() const;
  void begin(int32_t token, bool shown);

  const Tokenizer* tokenizer_;
  bool ids_;
  std::optional<StreamDecoder> decoder_;
  size_t characters_ = 0;
  nlohmann::ordered_json lists_;
};

}  // namespace lathe
