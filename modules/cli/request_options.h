// What `lathe generate` asks for: one prompt with its options from the command line, or many from a JSON Lines file.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "generate/request_options.h"

namespace lathe {

class Command;

// What an answer continues: ids, text, or the messages of a conversation.
struct Prompt {
  std::optional<std::vector<int32_t>> tokens;
  std::optional<std::string> text;
  nlohmann::ordered_json messages;  // null, or a list of {role, content}
};

// A flag for each option.
void declare(const Command& command, RequestOptions& options);
// For what the command line says: JSON is an object, or the name of a file with one.
void read_named_files(RequestOptions& options);

// An array of ids. Throws Error naming the one that is none.
std::vector<int32_t> token_ids(const OrderedJsonNode& list);

// Ids of a prompt: text through the tokenizer with its special tokens; messages through the model's template, which
// writes its own BOS, and what they hold of special tokens' text stays text (text/chat_template/encode_chat.h). Throws
// Error when the tokenizer or template is missing.
std::vector<int32_t> prompt_tokens(const Prompt& prompt, const Tokenizer* tokenizer, const std::string& model);

// One finished sequence as the command line prints it.
nlohmann::ordered_json to_json(const Completion& completion);

}  // namespace lathe
