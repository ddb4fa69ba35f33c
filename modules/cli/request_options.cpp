#include "cli/request_options.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "cli/command_line.h"
#include "cli/model_options.h"
#include "text/chat_template/encode_chat.h"

namespace lathe {
void declare(const Command& command, RequestOptions& options) {
  RequestOptions::visit(options, [&](auto& field, const OptionFacts& facts, auto...) {
    std::string flag = std::string("--") + facts.name;
    std::replace(flag.begin(), flag.end(), '_', '-');
    using Field = std::decay_t<decltype(field)>;
    if constexpr (std::is_same_v<Field, bool>) {
      command.flag(flag, field, facts.description);
    } else {
      const Option option = command.option(flag, field, facts.description);
      if constexpr (std::is_same_v<Field, int64_t>)
        option.shows_default().between(static_cast<int64_t>(facts.lowest), static_cast<int64_t>(facts.highest));
    }
  });
}

void read_named_files(RequestOptions& options) {
  std::optional<std::string>& schema = options.json_schema;
  if (schema && schema->find('{') == std::string::npos) schema = read_text(*schema);
}

std::vector<int32_t> token_ids(const OrderedJsonNode& list) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < list.size(); ++i) ids.push_back(static_cast<int32_t>(list.at(i).integer(0, INT32_MAX)));
  return ids;
}

std::vector<int32_t> prompt_tokens(const Prompt& prompt, const Tokenizer* tokenizer, const std::string& model) {
  if (prompt.tokens) return *prompt.tokens;
  check(tokenizer != nullptr, "prompt", "text needs a tokenizer, the model has none");
  if (prompt.messages.is_null()) return tokenizer->encode(prompt.text.value());
  ChatTemplate::Inputs inputs = chat_inputs(*tokenizer);
  inputs.messages = prompt.messages;
  return encode_chat(*tokenizer, ChatTemplate::parse(chat_template_of(*tokenizer, model), model), inputs);
}

nlohmann::ordered_json to_json(const Completion& c) {
  const auto entry = [](const TokenLogprob& t) {
    return nlohmann::ordered_json{{"token", t.token}, {"logprob", t.logprob}};
  };
  nlohmann::ordered_json logprobs = nullptr;
  for (const TokenLogprobs& step : c.logprobs) {
    nlohmann::ordered_json chosen = entry(step.chosen);
    chosen["top"] = nlohmann::ordered_json::array();
    for (const TokenLogprob& t : step.top) chosen["top"].push_back(entry(t));
    logprobs.push_back(chosen);
  }
  nlohmann::ordered_json json = {{"tokens", c.tokens}};
  json["text"] = c.text ? nlohmann::ordered_json(*c.text) : nlohmann::ordered_json(nullptr);
  json["finish_reason"] = name(c.finish_reason);
  json["prompt_tokens"] = c.prompt_tokens;
  json["cached_tokens"] = c.cached_tokens;
  json["logprobs"] = logprobs;
  json["seed"] = c.seed;
  return json;
}

}  // namespace lathe
