// The Responses API's conversation as chat templates take it.
#pragma once
#include <string>
#include <vector>

#include "formats/json_node.h"

namespace lathe {

// `input`: a text, or items: messages, function_call, function_call_output and reasoning. What the model said between
// two messages of others (reasoning, text and calls) becomes one message. `instructions`: null, or a system message
// that comes first. Throws Error naming the item that is none of it.
nlohmann::ordered_json response_messages(const nlohmann::ordered_json& instructions, const OrderedJsonNode& input);

// Tools of type function in the form of chats. Those of other types are left out, and a warning says so.
nlohmann::ordered_json response_tools(const OrderedJsonNode& tools, std::vector<std::string>& warnings);

}  // namespace lathe
