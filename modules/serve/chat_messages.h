// Conversations as the APIs write them, made into what chat templates are given.
#pragma once
#include <vector>

#include "formats/json_node.h"
#include "text/chat_template/chat_template.h"

namespace lathe {

// OpenAI's messages: `developer` is system, a list of text parts one text, and the arguments of tool calls, which come
// as JSON in a string, an object. Throws Error naming what is none of it, or is no text.
nlohmann::ordered_json chat_messages(const OrderedJsonNode& messages);

// Anthropic's: `system` (null, a string or text blocks) and `messages`, in whose blocks are tool_use and tool_result;
// earlier thinking is left out.
nlohmann::ordered_json anthropic_messages(const nlohmann::ordered_json& system, const OrderedJsonNode& messages);

// Anthropic's tools as OpenAI has them, which is what templates take.
nlohmann::ordered_json anthropic_tools(const OrderedJsonNode& tools);

// A content that is a string, null, or a list of parts of type "text", joined.
nlohmann::ordered_json text_content(const OrderedJsonNode& content);

}  // namespace lathe
