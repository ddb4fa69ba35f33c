#include "serve/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/strict_json.h"
#include "serve/text_marks.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

using CallJson = nlohmann::ordered_json;
constexpr std::string_view kHermesBegin = "<tool_call>", kHermesEnd = "</tool_call>", kMistral = "[TOOL_CALLS]",
                           kMistralId = "[CALL_ID]", kMistralArguments = "[ARGS]", kPythonTag = "<|python_tag|>";

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  return text.substr(0, text.find_last_not_of(kSpace) + 1);
}

std::optional<CallJson> parsed(std::string_view text) try {
  return parse_ordered_json(text, "tool call");
} catch (const Error&) {
  return std::nullopt;
}

// {"name", "arguments" or "parameters"}, where it is one.
std::optional<ToolCall> read_call(const CallJson& json) {
  if (!json.is_object() || !json.contains("name") || !json["name"].is_string()) return std::nullopt;
  for (const char* key : {"arguments", "parameters"}) {
    const auto found = json.find(key);
    if (found == json.end()) continue;
    const std::string text = found->is_string() ? found->get<std::string>() : found->dump();
    if (const auto object = parsed(text); object && object->is_object()) return ToolCall{json["name"], text, {}};
  }
  return std::nullopt;
}

// Calls that are objects in a list or alone; nothing where any is none.
std::optional<std::vector<ToolCall>> read_calls(const std::optional<CallJson>& json) {
  if (!json) return std::nullopt;
  const CallJson list = json->is_array() ? *json : CallJson::array({*json});
  std::vector<ToolCall> calls;
  for (const CallJson& one : list) {
    const std::optional<ToolCall> call = read_call(one);
    if (!call) return std::nullopt;
    calls.push_back(*call);
  }
  return calls;
}

std::optional<std::vector<ToolCall>> read_llama(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with(kPythonTag)) text = trimmed(text.substr(kPythonTag.size()));
  if (auto calls = read_calls(parsed(text))) return calls;
  std::vector<ToolCall> calls;  // {...}; {...}
  while (!text.empty()) {
    size_t end = text.find(';');
    std::optional<std::vector<ToolCall>> some;
    for (; !(some = read_calls(parsed(trimmed(text.substr(0, end))))); end = text.find(';', end + 1))
      if (end == text.npos) return std::nullopt;
    calls.insert(calls.end(), some->begin(), some->end());
    text = end == text.npos ? std::string_view() : trimmed(text.substr(end + 1));
  }
  return calls;
}

// What follows the first [TOOL_CALLS].
std::optional<std::vector<ToolCall>> read_mistral(std::string_view text) {
  if (auto calls = read_calls(parsed(trimmed(text)))) return calls;
  std::vector<ToolCall> calls;
  for (size_t end = 0; end != text.npos; text = text.substr(std::min(text.size(), end + kMistral.size()))) {
    end = text.find(kMistral);
    const std::string_view one = text.substr(0, end);
    const size_t border = one.find(kMistralArguments);
    if (border == one.npos) return std::nullopt;
    const auto arguments = parsed(one.substr(border + kMistralArguments.size()));
    if (!arguments || !arguments->is_object()) return std::nullopt;
    calls.push_back({std::string(trimmed(one.substr(0, std::min(border, one.find(kMistralId))))),
                     std::string(trimmed(one.substr(border + kMistralArguments.size()))),
                     {}});
  }
  return calls;
}

}  // namespace

CallTexts call_texts(ToolFormat format) {
  switch (format) {
    case ToolFormat::hermes: return {kHermesBegin, "\n{\"name\": \"", "\", \"arguments\": ", "}\n", kHermesEnd};
    case ToolFormat::llama: return {"", "{\"name\": \"", "\", \"parameters\": ", "}", ""};
    case ToolFormat::mistral: return {kMistral, "[{\"name\": \"", "\", \"arguments\": ", "}]", ""};
    case ToolFormat::mistral_args: return {kMistral, "", kMistralArguments, "", ""};
    case ToolFormat::none: break;
  }
  return {};
}

ToolFormat tool_format(const std::string& chat_template, const ChatTemplate::Inputs& like) {
  if (chat_template.find("tools") == chat_template.npos) return ToolFormat::none;
  const std::string name = "name_of_a_call";
  ChatTemplate::Inputs inputs = like;
  inputs.add_generation_prompt = false;
  const CallJson function = {{"name", name}, {"arguments", {{"key", "value"}}}};
  inputs.messages = {{{"role", "user"}, {"content", "x"}},
                     {{"role", "assistant"},
                      {"content", ""},
                      {"tool_calls", {{{"id", "123456789"}, {"type", "function"}, {"function", function}}}}}};
  std::string text;
  try {
    text = ChatTemplate::parse(chat_template).render(inputs);
  } catch (const Error&) {  // of a template that takes no calls
    return ToolFormat::none;
  }
  const size_t at = text.rfind(name);
  if (at == text.npos) return ToolFormat::none;
  const size_t begin = text.rfind(kHermesBegin, at), end = text.find(kHermesEnd, at);
  if (begin != text.npos && end != text.npos &&
      read_calls(parsed(trimmed(std::string_view(text).substr(begin, end - begin).substr(kHermesBegin.size())))))
    return ToolFormat::hermes;
  const std::string_view before = std::string_view(text).substr(0, at);
  const std::string_view behind = std::string_view(text).substr(at + name.size());
  if (before.ends_with(kMistral)) return ToolFormat::mistral_args;
  const CallTexts llama = call_texts(ToolFormat::llama), mistral = call_texts(ToolFormat::mistral);
  if (before.ends_with(llama.before) && behind.starts_with(llama.between)) return ToolFormat::llama;
  return before.ends_with(std::string(mistral.mark) + std::string(mistral.before)) &&
                 behind.starts_with(mistral.between)
             ? ToolFormat::mistral
             : ToolFormat::none;
}

ToolCallParser::Found& ToolCallParser::Found::operator+=(const Found& more) {
  content += more.content;
  calls.insert(calls.end(), more.calls.begin(), more.calls.end());
  return *this;
}

ToolCallParser::Found ToolCallParser::push(std::string_view piece) {
  Found found;
  if (format_ == ToolFormat::none) return {std::string(piece), {}};
  held_ += piece;
  if (format_ == ToolFormat::hermes) {
    take_hermes(found, false);
  } else if (is_mistral() && !in_call_) {
    const size_t begin = held_.find(kMistral);
    in_call_ = begin != held_.npos;
    const size_t certain = in_call_ ? begin : held_.size() - begun(held_, kMistral);
    found.content = held_.substr(0, certain);
    held_.erase(0, certain);
  } else if (format_ == ToolFormat::llama && !is_text_) {
    const std::string_view text = trimmed(held_);
    in_call_ = text.starts_with('{') || text.starts_with('[') || text.starts_with(kPythonTag);
    if (in_call_ || text.empty() || kPythonTag.starts_with(text)) return found;
    is_text_ = true;  // it is text, whatever comes
    found.content = std::exchange(held_, {});
  } else if (format_ == ToolFormat::llama) {
    found.content = std::exchange(held_, {});
  }
  return found;
}

// White space before and behind a call is no part of the answer's text: it is kept back until text follows it.
void ToolCallParser::take_hermes_text(Found& found, std::string text, bool last) {
  const size_t solid = text.find_last_not_of(kSpace) + 1;
  if (solid > 0) {
    if (std::exchange(behind_call_, false))
      text.erase(0, text.find_first_not_of(kSpace));
    else
      found.content += space_;
    space_.clear();
    const size_t end = text.find_last_not_of(kSpace) + 1;
    found.content += text.substr(0, end);
    text.erase(0, end);
  }
  space_ += text;
  if (last && !in_call_ && !behind_call_) found.content += std::exchange(space_, {});
}

void ToolCallParser::take_hermes(Found& found, bool last) {
  while (true) {
    if (!in_call_) {
      const size_t begin = held_.find(kHermesBegin);
      in_call_ = begin != held_.npos;
      std::string text = held_.substr(0, in_call_ ? begin : held_.size() - (last ? 0 : begun(held_, kHermesBegin)));
      held_.erase(0, text.size());
      take_hermes_text(found, std::move(text), last);
      if (!in_call_) return;
    }
    const size_t end = held_.find(kHermesEnd);
    if (end == held_.npos && !last) return;
    const std::string_view body = std::string_view(held_).substr(kHermesBegin.size(), end - kHermesBegin.size());
    const size_t whole = end == held_.npos ? held_.size() : end + kHermesEnd.size();
    in_call_ = false;
    if (const auto calls = read_calls(parsed(trimmed(body)))) {
      found.calls.insert(found.calls.end(), calls->begin(), calls->end());
      behind_call_ = true;
      space_.clear();
    } else {
      take_hermes_text(found, held_.substr(0, whole), false);
    }
    held_.erase(0, whole);
  }
}

void ToolCallParser::take_rest(Found& found) {
  const std::string text = std::exchange(held_, {});
  std::optional<std::vector<ToolCall>> calls;
  if (in_call_ && format_ == ToolFormat::llama) calls = read_llama(text);
  if (in_call_ && is_mistral()) calls = read_mistral(std::string_view(text).substr(kMistral.size()));
  if (calls)
    found.calls = std::move(*calls);
  else
    found.content += text;
}

ToolCallParser::Found ToolCallParser::finish() {
  Found found;
  if (format_ == ToolFormat::hermes)
    take_hermes(found, true);
  else
    take_rest(found);
  return found;
}

}  // namespace lathe
