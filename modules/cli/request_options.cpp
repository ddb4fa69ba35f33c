#include "cli/request_options.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/model_options.h"
#include "text/chat_template/encode_chat.h"

namespace lathe {
namespace {

// One, or a list of them.
std::vector<std::string> texts(const OrderedJsonNode& node) {
  if (node.value().is_string()) return {node.string()};
  if (!node.value().is_array()) node.expected("a string or a list of strings");
  std::vector<std::string> all;
  for (size_t i = 0; i < node.size(); ++i) all.push_back(node.at(i).string());
  return all;
}

}  // namespace

void RequestOptions::declare(const Command& command) {
  command.option("--max-new-tokens", max_new_tokens, "longest answer").shows_default().positive();
  command.flag("--greedy", greedy, "always the most probable token");
  command.option("--temperature", temperature, "0: greedy");
  command.option("--top-k", top_k, "only the k most probable tokens; 0: all");
  command.option("--top-p", top_p, "only the most probable tokens that reach p together");
  command.option("--min-p", min_p, "only tokens of at least this share of the highest probability");
  command.option("--repetition-penalty", repetition_penalty, "divides the logits of tokens seen; 1: none");
  command.option("--presence-penalty", presence_penalty, "subtracted once from tokens of the answer");
  command.option("--frequency-penalty", frequency_penalty, "subtracted for every occurrence in the answer");
  command.option("--seed", seed, "of the random numbers; default: chosen and reported");
  command.option("--stop", stop, "a text that ends the answer; may be repeated");
  command.flag("--ignore-eos", ignore_eos, "go on past end tokens");
  command.option("--num-sequences", num_sequences, "answers to each prompt")
      .shows_default()
      .between(1, Request::kMostSequences);
  command.option("--logprobs", logprobs, "log-probabilities of the k most probable tokens at each step");
}

void RequestOptions::read(const OrderedJsonNode& json) {
  constexpr int64_t kMost = int64_t{1} << 40;
  for (const auto& [key, value] : json.value().items()) {
    std::string k = key;
    std::replace(k.begin(), k.end(), '-', '_');
    if (k == "prompt" || k == "messages" || k == "tokens") continue;
    const OrderedJsonNode node = json.at(key);
    const bool given = json.has(key);  // null is the same as absent
    const auto into = [&](const char* name, auto& option, auto read) {
      if (k != name) return false;
      if (given) option = read();
      return true;
    };
    const auto number = [&] { return node.number(); };
    const auto boolean = [&] { return node.boolean(); };
    const auto count = [&] { return node.integer(1, kMost); };
    const auto count_or_none = [&] { return node.integer(0, kMost); };
    const bool known =
        into("max_new_tokens", max_new_tokens, count) ||
        into("num_sequences", num_sequences, [&] { return node.integer(1, Request::kMostSequences); }) ||
        into("greedy", greedy, boolean) || into("ignore_eos", ignore_eos, boolean) ||
        into("temperature", temperature, number) || into("top_p", top_p, number) || into("min_p", min_p, number) ||
        into("repetition_penalty", repetition_penalty, number) || into("presence_penalty", presence_penalty, number) ||
        into("frequency_penalty", frequency_penalty, number) || into("top_k", top_k, count_or_none) ||
        into("logprobs", logprobs, count_or_none) || into("seed", seed, [&] { return node.unsigned_integer(); }) ||
        into("stop", stop, [&] { return texts(node); });
    if (!known) json.fail(fmt::format("unknown key {}", quote(key)), "lathe help generate lists the options");
  }
}

std::vector<int32_t> token_ids(const OrderedJsonNode& list) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < list.size(); ++i) ids.push_back(static_cast<int32_t>(list.at(i).integer(0, INT32_MAX)));
  return ids;
}

Request RequestOptions::request(std::vector<int32_t> prompt, const SamplingParameters& defaults,
                                std::vector<int32_t> stop_tokens) const {
  Request r;
  r.prompt = std::move(prompt);
  r.max_new_tokens = max_new_tokens;
  r.num_sequences = num_sequences;
  r.sampling = over(defaults);
  r.stop_tokens = std::move(stop_tokens);
  r.ignore_eos = ignore_eos;
  r.stop_strings = stop;
  r.logprobs = logprobs;
  return r;
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
