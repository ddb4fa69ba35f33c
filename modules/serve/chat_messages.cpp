#include "serve/chat_messages.h"

#include <algorithm>

#include "formats/strict_json.h"
#include "text/chat_template/messages.h"

namespace lathe {
namespace {

// What a model's template wants as an object.
void read_arguments(nlohmann::ordered_json& calls, const std::string& where) {
  if (!calls.is_array()) return;
  for (size_t i = 0; i < calls.size(); ++i) {
    auto function = calls[i].find("function");
    if (function == calls[i].end() || !function->contains("arguments")) continue;
    nlohmann::ordered_json& arguments = (*function)["arguments"];
    if (!arguments.is_string()) continue;
    const std::string text = arguments.get<std::string>();
    arguments = text.empty() ? nlohmann::ordered_json::object()
                             : parse_ordered_json(text, fmt::format("{}.tool_calls[{}].function.arguments", where, i));
  }
}

// Claude Code writes a checksum into the first line of its system prompt that is another one at every turn: with it no
// two turns would have a prefix in common.
std::string without_checksum(std::string text) {
  if (!text.starts_with("x-anthropic-billing-header:")) return text;
  const size_t begin = text.find("cch="), line = text.find('\n');
  if (begin < std::min(line, text.size())) text.erase(begin, std::min(text.find(';', begin), line) - begin);
  return text;
}

// What tools answered comes first, as messages of their own.
void add_blocks(nlohmann::ordered_json& prepared, const std::string& role, const OrderedJsonNode& blocks) {
  std::string text, thinking;
  nlohmann::ordered_json calls = nlohmann::ordered_json::array();
  bool answered = false;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const OrderedJsonNode block = blocks.at(i);
    const std::string& type = block.at("type").string();
    if (type == "text") {
      text += block.at("text").string();
    } else if (type == "tool_use") {
      const nlohmann::ordered_json function = {{"name", block.at("name").string()},
                                               {"arguments", block.at("input").value()}};
      calls.push_back({{"id", block.at("id").string()}, {"type", "function"}, {"function", function}});
    } else if (type == "tool_result") {
      const auto content = block.has("content") ? text_content(block.at("content")) : nlohmann::ordered_json("");
      prepared.push_back({{"role", "tool"}, {"tool_call_id", block.at("tool_use_id").string()}, {"content", content}});
      answered = true;
    } else if (type == "thinking") {
      thinking += block.at("thinking").string();
    } else if (type != "redacted_thinking") {
      block.at("type").expected("\"text\", \"tool_use\" or \"tool_result\"");
    }
  }
  if (answered && text.empty()) return;
  prepared.push_back({{"role", role}, {"content", text}});
  if (!thinking.empty()) prepared.back()["reasoning_content"] = thinking;
  if (!calls.empty()) prepared.back()["tool_calls"] = std::move(calls);
}

}  // namespace

nlohmann::ordered_json text_content(const OrderedJsonNode& content) {
  if (!content.value().is_array()) return content.value();
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const OrderedJsonNode part = content.at(i);
    const std::string& type = part.at("type").string();
    if (type != "text")
      part.at("type").fail(fmt::format("expected \"text\", found {}: the model reads text alone", quote(type)));
    text += part.at("text").string();
  }
  return text;
}

nlohmann::ordered_json anthropic_messages(const nlohmann::ordered_json& system, const OrderedJsonNode& messages) {
  nlohmann::ordered_json prepared = nlohmann::ordered_json::array();
  if (!system.is_null())
    prepared.push_back({{"role", "system"}, {"content", without_checksum(text_content({system, "body.system"}))}});
  check_messages(messages.value(), messages.where());
  for (size_t i = 0; i < messages.size(); ++i) {
    const OrderedJsonNode message = messages.at(i);
    const std::string& role = message.at("role").string();
    if (role != "user" && role != "assistant") message.at("role").expected("\"user\" or \"assistant\"");
    if (message.at("content").value().is_array())
      add_blocks(prepared, role, message.at("content"));
    else
      prepared.push_back({{"role", role}, {"content", message.at("content").string()}});
  }
  return prepared;
}

nlohmann::ordered_json anthropic_tools(const OrderedJsonNode& tools) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (size_t i = 0; i < tools.size(); ++i) {
    const OrderedJsonNode tool = tools.at(i);
    if (tool.string_or("type", "custom") != "custom") tool.at("type").expected("\"custom\": the server runs no tools");
    nlohmann::ordered_json function = {{"name", tool.at("name").string()}};
    if (tool.has("description")) function["description"] = tool.at("description").string();
    function["parameters"] = tool.at("input_schema").value();
    list.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return list;
}

nlohmann::ordered_json chat_messages(const OrderedJsonNode& messages) {
  check_messages(messages.value(), messages.where());
  nlohmann::ordered_json prepared = messages.value();
  for (size_t i = 0; i < prepared.size(); ++i) {
    nlohmann::ordered_json& message = prepared[i];
    if (message["role"] == "developer") message["role"] = "system";
    if (message.contains("content")) message["content"] = text_content(messages.at(i).at("content"));
    // An empty list is none: some templates count the calls of every message that has the key.
    if (message.contains("tool_calls") && message["tool_calls"].empty()) message.erase("tool_calls");
    if (message.contains("tool_calls")) read_arguments(message["tool_calls"], messages.at(i).where());
  }
  return prepared;
}

}  // namespace lathe
