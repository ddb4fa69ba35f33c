#include "serve/logprobs.h"

#include <algorithm>

#include "text/unicode/utf8.h"

namespace lathe {
namespace {

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

std::string token_spelling(const Tokenizer* tokenizer, int32_t token) {
  if (!tokenizer) return fmt::format("token_id:{}", token);
  std::string bytes = tokenizer->token_bytes(token);
  if (!first_invalid_utf8(bytes)) return bytes;
  std::string text = "bytes:";
  for (const char byte : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return text;
}

LegacyLogprobs::LegacyLogprobs(const Tokenizer* tokenizer, bool ids)
    : tokenizer_(tokenizer), ids_(ids), lists_(empty_lists()) {
  if (tokenizer) decoder_.emplace(*tokenizer);
}

nlohmann::ordered_json LegacyLogprobs::empty_lists() const {
  const auto list = nlohmann::ordered_json::array();
  nlohmann::ordered_json lists = {
      {"tokens", list}, {"token_logprobs", list}, {"top_logprobs", list}, {"text_offset", list}};
  if (ids_) lists.update({{"token_ids", list}, {"top_token_ids", list}});
  return lists;
}

void LegacyLogprobs::begin(int32_t token, bool shown) {
  lists_["tokens"].push_back(token_spelling(tokenizer_, token));
  if (ids_) lists_["token_ids"].push_back(token);
  lists_["text_offset"].push_back(characters_);
  if (decoder_ && shown) characters_ += count_characters(decoder_->push(token));
}

void LegacyLogprobs::add_first(int32_t token, bool shown) {
  begin(token, shown);
  lists_["token_logprobs"].push_back(nullptr);
  lists_["top_logprobs"].push_back(nullptr);
  if (ids_) lists_["top_token_ids"].push_back(nullptr);
}

void LegacyLogprobs::add(const TokenLogprobs& of) {
  begin(of.chosen.token, true);
  const double logprob = finite_logprob(of.chosen.logprob);
  lists_["token_logprobs"].push_back(logprob);
  nlohmann::ordered_json top = nlohmann::ordered_json::object(), ids = top;
  const auto add_top = [&](const TokenLogprob& t) {  // of two tokens that are spelled alike, the first one
    const std::string text = token_spelling(tokenizer_, t.token);
    if (top.contains(text)) return;
    top[text] = finite_logprob(t.logprob);
    ids[text] = t.token;
  };
  for (const TokenLogprob& t : of.top) add_top(t);  // descending
  add_top(of.chosen);
  lists_["top_logprobs"].push_back(std::move(top));
  if (ids_) lists_["top_token_ids"].push_back(std::move(ids));
}

nlohmann::ordered_json LegacyLogprobs::take() { return std::exchange(lists_, empty_lists()); }

}  // namespace lathe
