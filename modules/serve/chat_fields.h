// Fields of requests that shape a conversation's prompt, in the spellings of the APIs. All throw ApiError.
#pragma once
#include <string>
#include <vector>

#include "serve/chat_prompt.h"
#include "serve/request_fields.h"

namespace lathe {

// OpenAI's tools, tool_choice and parallel_tool_calls; Anthropic's tools and tool_choice.
void read_chat_tools(RequestFields& fields, ChatPrompt& chat);
void read_message_tools(RequestFields& fields, ChatPrompt& chat);
// The Responses API's; `warnings`: of tools that were left out.
void read_response_tools(RequestFields& fields, ChatPrompt& chat, std::vector<std::string>& warnings);

// How much to think: "none", "minimal", ..., "max".
void read_effort(RequestFields& fields, const std::string& field, ChatPrompt& chat);
// Anthropic's `thinking`. `shown`: whether thinking is part of the answer. "adaptive" leaves it to the model.
void read_thinking(RequestFields& fields, ChatPrompt& chat, bool& shown);

}  // namespace lathe
