// What `lathe generate` asks for: one prompt with its options from the command line, or many from a JSON Lines file.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "generate/request.h"

namespace lathe {

class Command;

// What an answer continues: ids, text, or the messages of a conversation.
struct Prompt {
  std::optional<std::vector<int32_t>> tokens;
  std::optional<std::string> text;
  nlohmann::ordered_json messages;  // null, or a list of {role, content}
};

struct RequestOptions : SamplingChoices {
  int64_t max_new_tokens = 128, num_sequences = 1;
  bool ignore_eos = false;
  std::optional<int64_t> logprobs;
  std::vector<std::string> stop;

  void declare(const Command& command);
  // Overrides what `json` names, in the spelling of the options with _ or -; other keys are an Error naming the key.
  void read(const nlohmann::ordered_json& json);
  // `defaults` are the model's; greedy and what is given here come first.
  Request request(std::vector<int32_t> prompt, const SamplingParameters& defaults,
                  std::vector<int32_t> stop_tokens) const;
};

// Ids of a prompt: text through the tokenizer with its special tokens; messages through the model's template, which
// writes its own BOS, and what they hold of special tokens' text stays text (chat_template/encode_chat.h). Throws Error
// when the tokenizer or template is missing.
std::vector<int32_t> prompt_tokens(const Prompt& prompt, const Tokenizer* tokenizer, const std::string& model);

// One finished sequence as the command line prints it.
nlohmann::ordered_json to_json(const Completion& completion);

}  // namespace lathe
