#include "serve/response_items.h"

#include <set>

#include "formats/strict_json.h"

namespace lathe {
namespace {

using ItemJson = nlohmann::ordered_json;

// A string, or a list of parts that have a text.
std::string item_text(const OrderedJsonNode& content) {
  if (!content.value().is_array()) return content.string();
  static const std::set<std::string> kinds = {"input_text", "output_text", "text", "reasoning_text", "summary_text"};
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const OrderedJsonNode part = content.at(i);
    if (part.at("type").string() == "refusal") {
      text += part.at("refusal").string();
      continue;
    }
    if (!kinds.contains(part.at("type").string())) part.at("type").expected("a text: the model reads text alone");
    text += part.at("text").string();
  }
  return text;
}

// The message of the model that the items add to.
ItemJson& models_message(ItemJson& messages) {
  if (messages.empty() || messages.back()["role"] != "assistant")
    messages.push_back({{"role", "assistant"}, {"content", ""}});
  return messages.back();
}

void add_message(ItemJson& messages, const OrderedJsonNode& item) {
  const std::string& role = item.at("role").string();
  const std::string text = item_text(item.at("content"));
  if (role == "assistant") {
    ItemJson& message = models_message(messages);
    message["content"] = message["content"].get<std::string>() + text;
  } else if (role == "user" || role == "system" || role == "developer") {
    messages.push_back({{"role", role == "user" ? "user" : "system"}, {"content", text}});
  } else {
    item.at("role").expected("\"user\", \"assistant\", \"system\" or \"developer\"");
  }
}

void add_call(ItemJson& messages, const OrderedJsonNode& item) {
  const std::string& arguments = item.at("arguments").string();
  const ItemJson parsed =
      arguments.empty() ? ItemJson::object() : parse_ordered_json(arguments, item.at("arguments").where());
  ItemJson& message = models_message(messages);
  if (!message.contains("tool_calls")) message["tool_calls"] = ItemJson::array();
  message["tool_calls"].push_back({{"id", item.at("call_id").string()},
                                   {"type", "function"},
                                   {"function", {{"name", item.at("name").string()}, {"arguments", parsed}}}});
}

void add_reasoning(ItemJson& messages, const OrderedJsonNode& item) {
  for (const char* key : {"content", "summary"}) {
    const std::string text = item.has(key) ? item_text(item.at(key)) : "";
    if (text.empty()) continue;
    models_message(messages)["reasoning_content"] = text;
    return;
  }
}

void add_item(ItemJson& messages, const OrderedJsonNode& item) {
  const std::string type = item.string_or("type", "message");
  if (type == "message")
    add_message(messages, item);
  else if (type == "function_call")
    add_call(messages, item);
  else if (type == "function_call_output")
    messages.push_back(
        {{"role", "tool"}, {"tool_call_id", item.at("call_id").string()}, {"content", item_text(item.at("output"))}});
  else if (type == "reasoning")
    add_reasoning(messages, item);
  else if (type == "item_reference")
    item.at("type").fail("the server is stateless: it has no items that could be referred to");
  else
    item.at("type").expected("\"message\", \"function_call\", \"function_call_output\" or \"reasoning\"");
}

}  // namespace

nlohmann::ordered_json response_messages(const nlohmann::ordered_json& instructions, const OrderedJsonNode& input) {
  ItemJson messages = ItemJson::array();
  if (!instructions.is_null()) messages.push_back({{"role", "system"}, {"content", instructions}});
  if (input.value().is_string()) {
    messages.push_back({{"role", "user"}, {"content", input.value()}});
  } else {
    for (size_t i = 0; i < input.size(); ++i) add_item(messages, input.at(i));
  }
  // One system message is what templates take.
  if (messages.size() > 1 && messages[0]["role"] == "system" && messages[1]["role"] == "system") {
    messages[0]["content"] =
        messages[0]["content"].get<std::string>() + "\n\n" + messages[1]["content"].get<std::string>();
    messages.erase(1);
  }
  return messages;
}

nlohmann::ordered_json response_tools(const OrderedJsonNode& tools, std::vector<std::string>& warnings) {
  ItemJson list = ItemJson::array();
  for (size_t i = 0; i < tools.size(); ++i) {
    const OrderedJsonNode tool = tools.at(i);
    if (const std::string& type = tool.at("type").string(); type != "function") {
      warnings.push_back(fmt::format("tools[{}]: a tool of type {} is not there: skipped", i, quote(type)));
      continue;
    }
    ItemJson function = {{"name", tool.at("name").string()}};
    if (tool.has("description")) function["description"] = tool.at("description").string();
    if (tool.has("parameters")) function["parameters"] = tool.at("parameters").value();
    list.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return list;
}

}  // namespace lathe
