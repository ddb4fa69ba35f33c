// Warnings about templates and conversations; see the header.
#include "text/chat_template/lint.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "tensor/errors.h"
#include "text/chat_template/operators.h"
#include "text/chat_template/special_text.h"
#include "text/unicode/python_text.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
using Warnings = std::vector<std::string>;

std::string shortened(std::string_view text) {
  const std::string_view beginning = text.substr(0, character_offset(text, 40));
  return jinja::python_quote(beginning) + (beginning.size() < text.size() ? "..." : "");
}

// The texts of a message: its content, or the text parts of it.
std::vector<std::string> texts_of(const Json& message) {
  if (!message.is_object() || !message.contains("content")) return {};
  const Json& content = message["content"];
  if (content.is_string()) return {content.get<std::string>()};
  std::vector<std::string> texts;
  if (content.is_array())
    for (const Json& part : content)
      if (part.is_object() && part.contains("text") && part["text"].is_string()) texts.push_back(part["text"]);
  return texts;
}

// Templates may trim a message, so its outer white space does not count.
void find_lost_messages(const ChatTemplate::Inputs& inputs, const std::string& rendered, Warnings& warnings) {
  if (!inputs.messages.is_array()) return;
  for (std::size_t i = 0; i < inputs.messages.size(); ++i) {
    const Json& message = inputs.messages[i];
    const bool has_role = message.is_object() && message.contains("role") && message["role"].is_string();
    const std::string role = has_role ? message["role"].get<std::string>() : "";
    if (role != "system" && role != "user") continue;
    for (const std::string& text : texts_of(message))
      if (jinja::find_text(rendered, python::strip(text, python::Side::both)) == rendered.npos)
        warnings.push_back(fmt::format("the {} message {} is not in the prompt: {}", role, i, shortened(text)));
  }
}

void find_doubled_bos(const ChatTemplate::Inputs& inputs, const std::string& rendered, const Tokenizer* tokenizer,
                      Warnings& warnings) {
  const auto variable = inputs.variables.find("bos_token");
  const std::string bos = variable == inputs.variables.end() ? "" : variable->second;
  if (bos.empty() || !rendered.starts_with(bos)) return;
  if (rendered.starts_with(bos + bos)) warnings.push_back(fmt::format("the prompt begins with two {}", bos));
  const std::vector<int32_t> added = tokenizer ? tokenizer->encode("") : std::vector<int32_t>();
  if (!added.empty() && added.front() == tokenizer->bos())
    warnings.push_back(fmt::format(
        "the template writes {}, and the tokenizer adds one: encode the prompt without adding special tokens", bos));
}

// "<|name|>" in a text, from `position` on; empty where there is none.
std::string_view next_marker(std::string_view text, std::size_t& position) {
  constexpr std::size_t longest = 60;
  while ((position = text.find("<|", position)) != text.npos) {
    const std::size_t begin = position, end = text.find("|>", begin);
    position += 2;
    if (end != text.npos && end - begin < longest) return text.substr(begin, end + 2 - begin);
  }
  return {};
}

void find_special_tokens(const ChatTemplate::Inputs& inputs, std::string_view source, const Tokenizer* tokenizer,
                         Warnings& warnings) {
  std::set<std::pair<std::string, std::string>> found;
  if (tokenizer) {
    for (const SpecialText& place : find_special_text(*tokenizer, inputs))
      if (place.is_whole) found.emplace(place.in, tokenizer->token_text(place.token));
  } else {
    map_strings(inputs, [&](const std::string& path, const std::string& text) {
      std::size_t position = 0;
      for (std::string_view marker; !(marker = next_marker(text, position)).empty();)
        if (source.find(marker) != source.npos && marker != text) found.emplace(path, marker);
      return text;
    });
  }
  for (const auto& [path, token] : found)
    warnings.push_back(fmt::format("{} holds the text of the special token {}: it is encoded as text", path, token));
}

Json message(const char* role, const char* content) { return {{"role", role}, {"content", content}}; }

void try_usual_conversations(const ChatTemplate& chat_template, const ChatTemplate::Inputs& inputs,
                             Warnings& warnings) {
  const Json user = message("user", "Hello"), again = message("user", "And then?");
  const Json system = message("system", "Be brief."), assistant = message("assistant", "Good day.");
  const Json tool = {{"type", "function"},
                     {"function",
                      {{"name", "weather"},
                       {"description", "The weather of a place."},
                       {"parameters",
                        {{"type", "object"},
                         {"properties", {{"place", {{"type", "string"}, {"description", "A town."}}}}},
                         {"required", Json::array({"place"})}}}}}};
  struct Usual {
    const char* name;
    Json messages, tools;
  };
  const Usual usual[] = {{"a system message and a user's", Json::array({system, user}), nullptr},
                         {"user, assistant, user", Json::array({user, assistant, again}), nullptr},
                         {"a user's message with tools", Json::array({user}), Json::array({tool})}};
  for (const auto& [name, messages, tools] : usual) {
    ChatTemplate::Inputs usual_inputs = inputs;
    usual_inputs.messages = messages, usual_inputs.tools = tools;
    try {
      Warnings lost;
      find_lost_messages(usual_inputs, chat_template.render(usual_inputs), lost);
      if (!lost.empty()) warnings.push_back(fmt::format("{}: {}", name, lost.front()));
    } catch (const Error& error) {
      warnings.push_back(fmt::format("{}: the template refuses: {}", name, error.what()));
    }
  }
}

}  // namespace

std::vector<std::string> lint_chat(const ChatTemplate& chat_template, std::string_view source,
                                   const ChatTemplate::Inputs& inputs, const Tokenizer* tokenizer) {
  Warnings warnings;
  const std::string rendered = chat_template.render(inputs);
  find_doubled_bos(inputs, rendered, tokenizer, warnings);
  find_lost_messages(inputs, rendered, warnings);
  find_special_tokens(inputs, source, tokenizer, warnings);
  for (const std::string& name : chat_template.unknown_variables(inputs))
    warnings.push_back(
        fmt::format("the template reads the variable '{}', which is not given (--var {}=...)", name, name));
  ChatTemplate::Inputs other = inputs;
  other.add_generation_prompt = !inputs.add_generation_prompt;
  if (chat_template.render(other) == rendered)
    warnings.push_back("add_generation_prompt changes nothing: the model may go on as the user");
  try_usual_conversations(chat_template, inputs, warnings);
  return warnings;
}

}  // namespace lathe
