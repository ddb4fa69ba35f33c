// See messages.h.
#include "text/chat_template/messages.h"

#include "formats/json_node.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

void check_objects(const OrderedJsonNode& list, const char* what) {
  if (!list.value().is_array()) list.expected(what);
  for (size_t i = 0; i < list.size(); ++i)
    if (!list.at(i).value().is_object()) list.at(i).expected("an object");
}

void check_content(const OrderedJsonNode& content, const std::string& role) {
  const bool of_tool = role != "system" && role != "user" && role != "assistant";
  if (content.value().is_string() || (of_tool && content.value().is_structured())) return;
  check_objects(content, "a string, a list of parts or null");
}

Json prepare_message(const Json& message) {
  if (!message.is_object()) return message;
  const Json* reasoning = nullptr;
  for (const char* key : {"reasoning_content", "thinking", "reasoning"}) {
    const auto found = message.find(key);
    if (!reasoning && found != message.end() && !found->is_null()) reasoning = &*found;
  }
  Json prepared = Json::object();
  if (reasoning) prepared["thinking"] = *reasoning;
  for (const auto& [key, value] : message.items())
    if (!value.is_null()) prepared[key] = value;
  if (reasoning) prepared["reasoning_content"] = *reasoning;
  return prepared;
}

}  // namespace

void check_messages(const Json& messages, const std::string& where) {
  const OrderedJsonNode list(messages, where);
  if (messages.is_object() && messages.contains("messages"))
    list.fail("expected a list of messages, found an object", "give the list that its key messages holds");
  check_objects(list, "a list of messages");
  if (messages.empty()) list.fail("expected at least one message, found an empty list");
  for (size_t i = 0; i < messages.size(); ++i) {
    const OrderedJsonNode message = list.at(i);
    const std::string& role = message.at("role").string();
    const Json& keys = message.value();
    if (!keys.contains("content") && !keys.contains("tool_calls")) message.fail("'content' is missing");
    if (message.has("content")) check_content(message.at("content"), role);
    if (message.has("tool_calls")) check_objects(message.at("tool_calls"), "a list or null");
  }
}

void check_tools(const Json& tools, const std::string& where) {
  if (!tools.is_null()) check_objects({tools, where}, "a list of tools or null");
}

Json prepare_messages(const Json& messages) {
  if (!messages.is_array()) return messages;
  Json prepared = Json::array();
  for (const Json& message : messages) prepared.push_back(prepare_message(message));
  return prepared;
}

}  // namespace lathe
