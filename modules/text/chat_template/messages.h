// The shape of a conversation, and what is done to it before a template sees it.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace lathe {

// A conversation is a list of at least one object with a role, a string. Its content is null, a string, or
// a list of parts, which are objects; in what tools answer (any role but system, user and assistant) it may be an
// object; beside tool_calls it may be missing. tool_calls is null or a list of objects. Throws Error naming `where`,
// the message and the key.
void check_messages(const nlohmann::ordered_json& messages, const std::string& where);
// A list of objects, or null.
void check_tools(const nlohmann::ordered_json& tools, const std::string& where);

// The messages as transformers 5 hands them to a template (apply_chat_template, render_jinja_template): a key whose
// value is null is left out, and reasoning is there as reasoning_content and thinking, whichever of reasoning_content,
// thinking and reasoning it came as (the first of these counts). What is no object stays as it is.
nlohmann::ordered_json prepare_messages(const nlohmann::ordered_json& messages);

}  // namespace lathe
