#include "serve/chat_fields.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "serve/chat_messages.h"
#include "serve/response_items.h"
#include "text/chat_template/messages.h"

namespace lathe {
namespace {

// "auto", "none" or "required".
ToolChoice tool_choice(const OrderedJsonNode& node) {
  for (const auto& [name, kind] : {std::pair{"auto", ToolChoice::Kind::automatic},
                                   {"none", ToolChoice::Kind::none},
                                   {"required", ToolChoice::Kind::required}})
    if (node.string() == name) return {kind};
  node.expected("\"auto\", \"none\" or \"required\"");
}

ToolChoice tool_named(const OrderedJsonNode& name) { return {ToolChoice::Kind::required, name.string()}; }

}  // namespace

void read_chat_tools(RequestFields& fields, ChatPrompt& chat) {
  nlohmann::ordered_json tools;
  fields.read("tools", [&](const OrderedJsonNode& node) {
    check_tools(node.value(), node.where());
    for (size_t i = 0; i < node.size(); ++i) {
      if (node.at(i).at("type").string() != "function") node.at(i).at("type").expected("\"function\"");
      node.at(i).at("function").at("name").string();
    }
    tools = node.value();
  });
  ToolChoice choice;
  fields.read("tool_choice", [&](const OrderedJsonNode& node) {
    choice = node.value().is_string() ? tool_choice(node) : tool_named(node.at("function").at("name"));
  });
  choice.parallel = fields.flag("parallel_tool_calls", true);
  chat.take_tools(std::move(tools), choice);
}

void read_message_tools(RequestFields& fields, ChatPrompt& chat) {
  nlohmann::ordered_json tools;
  fields.read("tools", [&](const OrderedJsonNode& node) { tools = anthropic_tools(node); });
  ToolChoice choice;
  fields.read("tool_choice", [&](const OrderedJsonNode& node) {
    const std::string& type = node.at("type").string();
    if (type == "any")
      choice.kind = ToolChoice::Kind::required;
    else
      choice = type == "tool" ? tool_named(node.at("name")) : tool_choice(node.at("type"));
    choice.parallel = !node.boolean_or("disable_parallel_tool_use", false);
  });
  chat.take_tools(std::move(tools), choice);
}

void read_response_tools(RequestFields& fields, ChatPrompt& chat, std::vector<std::string>& warnings) {
  nlohmann::ordered_json tools;
  fields.read("tools", [&](const OrderedJsonNode& node) { tools = response_tools(node, warnings); });
  ToolChoice choice;
  fields.read("tool_choice", [&](const OrderedJsonNode& node) {
    if (!node.value().is_string() && node.at("type").string() != "function") node.at("type").expected("\"function\"");
    choice = node.value().is_string() ? tool_choice(node) : tool_named(node.at("name"));
  });
  choice.parallel = fields.flag("parallel_tool_calls", true);
  chat.take_tools(std::move(tools), choice);
}

void read_effort(RequestFields& fields, const std::string& field, ChatPrompt& chat) {
  fields.read(field, [&](const OrderedJsonNode& node) {
    const std::set<std::string> known = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    if (!known.contains(node.string()))
      node.expected("\"none\", \"minimal\", \"low\", \"medium\", \"high\", \"xhigh\" or \"max\"");
    chat.think(node.string() != "none", node.string(), field);
  });
}

void read_thinking(RequestFields& fields, ChatPrompt& chat, bool& shown) {
  fields.read("thinking", [&](const OrderedJsonNode& node) {
    const std::string& type = node.at("type").string();
    if (type != "enabled" && type != "adaptive" && type != "disabled")
      node.at("type").expected("\"enabled\", \"adaptive\" or \"disabled\"");
    shown = type != "disabled" && node.string_or("display", "summarized") != "omitted";
    if (type != "adaptive") chat.think(type == "enabled", {}, "thinking");
  });
}

}  // namespace lathe
