#include "serve/logprobs.h"

#include <algorithm>

#include "text/unicode/utf8.h"

namespace lathe {
namespace {

nlohmann::ordered_json empty_lists() {
  const auto list = nlohmann::ordered_json::array();
  return {{"tokens", list}, {"token_logprobs", list}, {"top_logprobs", list}, {"text_offset", list}};
}

nlohmann::ordered_json entry(const Tokenizer& tokenizer, const TokenLogprob& of) {
  const std::string bytes = tokenizer.token_bytes(of.token);
  Utf8Repair repair;
  std::string text = repair.push(bytes);
  text += repair.finish();
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return {{"token", text}, {"logprob", finite_logprob(of.logprob)}, {"bytes", list}};
}

}  // namespace

double finite_logprob(float logprob) { return logprob > -9999.0f ? logprob : -9999.0; }

nlohmann::ordered_json chat_logprob(const Tokenizer& tokenizer, const TokenLogprobs& of) {
  nlohmann::ordered_json json = entry(tokenizer, of.chosen);
  json["top_logprobs"] = nlohmann::ordered_json::array();
  for (const TokenLogprob& top : of.top) json["top_logprobs"].push_back(entry(tokenizer, top));
  return json;
}

LegacyLogprobs::LegacyLogprobs(const Tokenizer* tokenizer) : tokenizer_(tokenizer), lists_(empty_lists()) {
  if (tokenizer) decoder_.emplace(*tokenizer);
}

// Part of a character has no text of its own: its bytes are spelled out, so that different tokens stay different.
std::string LegacyLogprobs::spelling(int32_t token) const {
  if (!tokenizer_) return fmt::format("token_id:{}", token);
  std::string bytes = tokenizer_->token_bytes(token);
  if (!first_invalid_utf8(bytes)) return bytes;
  std::string text = "bytes:";
  for (const char byte : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return text;
}

void LegacyLogprobs::begin(int32_t token, bool shown) {
  lists_["tokens"].push_back(spelling(token));
  lists_["text_offset"].push_back(characters_);
  if (decoder_ && shown) characters_ += count_characters(decoder_->push(token));
}

void LegacyLogprobs::add_first(int32_t token, bool shown) {
  begin(token, shown);
  lists_["token_logprobs"].push_back(nullptr);
  lists_["top_logprobs"].push_back(nullptr);
}

void LegacyLogprobs::add(const TokenLogprobs& of) {
  begin(of.chosen.token, true);
  const double logprob = finite_logprob(of.chosen.logprob);
  lists_["token_logprobs"].push_back(logprob);
  nlohmann::ordered_json top = nlohmann::ordered_json::object();
  for (const TokenLogprob& t : of.top) {  // descending: of two tokens that are spelled alike, the more probable one
    const std::string text = spelling(t.token);
    if (!top.contains(text)) top[text] = finite_logprob(t.logprob);
  }
  if (const std::string text = spelling(of.chosen.token); !top.contains(text)) top[text] = logprob;
  lists_["top_logprobs"].push_back(std::move(top));
}

nlohmann::ordered_json LegacyLogprobs::take() { return std::exchange(lists_, empty_lists()); }

}  // namespace lathe
