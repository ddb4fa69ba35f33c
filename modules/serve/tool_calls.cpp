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
using Calls = std::optional<std::vector<ToolCall>>;
using How = ToolForm::Arguments;

constexpr ToolForm kToolForms[] = {
    {.name = "hermes",  // Qwen 2.5 and 3, Granite 4
     .arguments = How::objects,
     .begin = "<tool_call>",
     .end = "</tool_call>",
     .before_name = "\n{\"name\": \"",
     .behind_name = "\", \"arguments\": ",
     .behind_call = "}\n",
     .repeats = true},
    {.name = "xml",  // Qwen 3 Coder, Qwen 3.5, Nemotron 3
     .arguments = How::tagged,
     .begin = "<tool_call>",
     .end = "</tool_call>",
     .before_name = "\n<function=",
     .behind_name = ">\n",
     .behind_call = "</function>\n",
     .before_key = "<parameter=",
     .behind_key = ">",
     .before_value = "\n",
     .behind_value = "\n</parameter>\n",
     .repeats = true},
    {.name = "glm",  // GLM 4.5 and later, Ling, Laguna
     .arguments = How::tagged,
     .begin = "<tool_call>",
     .end = "</tool_call>",
     .before_name = "",
     .behind_name = "",
     .before_key = "<arg_key>",
     .behind_key = "</arg_key>",
     .before_value = "<arg_value>",
     .behind_value = "</arg_value>",
     .repeats = true},
    {.name = "gemma",  // Gemma 4
     .arguments = How::bare,
     .begin = "<|tool_call>",
     .end = "<tool_call|>",
     .before_name = "call:",
     .behind_name = "",
     .before_value = "<|\"|>",
     .behind_value = "<|\"|>",
     .repeats = true},
    {.name = "cohere",  // Command R7B and later
     .arguments = How::objects,
     .begin = "<|START_ACTION|>",
     .end = "<|END_ACTION|>",
     .before_name = "[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"",
     .behind_name = "\", \"parameters\": ",
     .behind_call = "}\n]"},
    {.name = "harmony",  // gpt-oss
     .arguments = How::named,
     .begin = " to=functions.",
     .end = "<|call|>",
     .before_name = "",
     .behind_name = " <|constrain|>json<|message|>",
     .may_lead = "<|channel|>commentary"},
    {.name = "tool_calls",  // MiniMax M1, Apriel 1.5
     .arguments = How::objects,
     .begin = "<tool_calls>",
     .end = "</tool_calls>",
     .before_name = "\n{\"name\": \"",
     .behind_name = "\", \"arguments\": ",
     .behind_call = "}\n"},
    {.name = "function_call",  // GigaChat 3
     .arguments = How::objects,
     .begin = "<|function_call|>",
     .end = "",
     .before_name = "{\"name\": \"",
     .behind_name = "\", \"arguments\": ",
     .behind_call = "}"},
    {.name = "mistral_args",  // since tokenizer v11, with [CALL_ID] and an id before [ARGS] or not
     .arguments = How::named,
     .begin = "[TOOL_CALLS]",
     .end = "",
     .before_name = "",
     .behind_name = "[ARGS]",
     .short_ids = true},
    {.name = "mistral",
     .arguments = How::objects,
     .begin = "[TOOL_CALLS]",
     .end = "",
     .before_name = "[{\"name\": \"",
     .behind_name = "\", \"arguments\": ",
     .behind_call = "}]",
     .short_ids = true},
    {.name = "llama",  // 3.1 and later
     .arguments = How::objects,
     .begin = "",
     .end = "",
     .before_name = "{\"name\": \"",
     .behind_name = "\", \"parameters\": ",
     .behind_call = "}",
     .may_lead = "<|python_tag|>"},
};

// ---- reading ----

std::string_view trimmed(std::string_view text, std::string_view blanks = kSpace) {
  text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
  return text.substr(0, text.find_last_not_of(blanks) + 1);
}

// Takes `text`, and blanks before it, off the beginning of `from`; false where it does not stand there.
bool take(std::string_view& from, std::string_view text) {
  const std::string_view rest = from.substr(std::min(from.find_first_not_of(kSpace), from.size()));
  if (!rest.starts_with(trimmed(text))) return false;
  from = rest.substr(trimmed(text).size());
  return true;
}

// What stands before `end`, which is taken off with it; nothing where it is not there.
std::optional<std::string_view> take_until(std::string_view& from, std::string_view end) {
  const size_t at = from.find(trimmed(end));
  if (at == from.npos) return std::nullopt;
  const std::string_view found = from.substr(0, at);
  from.remove_prefix(at + trimmed(end).size());
  return found;
}

std::string_view take_name(std::string_view& from, std::string_view more_ends = {}) {
  const size_t end = std::min(from.find_first_of(std::string(" \t\r\n<[{\"") + std::string(more_ends)), from.size());
  const std::string_view name = from.substr(0, end);
  from.remove_prefix(end);
  return name;
}

std::optional<CallJson> parsed(std::string_view text) try {
  return parse_ordered_json(text, "tool call");
} catch (const Error&) {
  return std::nullopt;
}

// {"name", "arguments"} or what others call them, where it is one.
std::optional<ToolCall> read_call(const CallJson& json) {
  if (!json.is_object()) return std::nullopt;
  const auto member = [&](const char* name, const char* otherwise) {
    const auto found = json.find(name);
    return found == json.end() ? json.find(otherwise) : found;
  };
  const auto name = member("name", "tool_name"), arguments = member("arguments", "parameters");
  if (name == json.end() || !name->is_string() || arguments == json.end()) return std::nullopt;
  const std::string text = arguments->is_string() ? arguments->get<std::string>() : arguments->dump();
  if (const auto object = parsed(text); !object || !object->is_object()) return std::nullopt;
  return ToolCall{*name, text, {}};
}

// Bytes of the value that text begins with, an object or a list: up to the bracket that closes it.
size_t value_size(std::string_view text) {
  size_t depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\') ++i;
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    depth += c == '{' || c == '[';
    if ((c == '}' || c == ']') && --depth == 0) return i + 1;
  }
  return text.size();
}

// {...}; {...} or [{...}, {...}]
Calls read_objects(std::string_view text, const ToolForm& form) {
  std::vector<ToolCall> calls;
  if (!form.may_lead.empty()) take(text, form.may_lead);
  while (text = trimmed(text, " \t\r\n;"), !text.empty()) {
    if (text[0] != '{' && text[0] != '[') return std::nullopt;
    const auto json = parsed(text.substr(0, value_size(text)));
    if (!json) return std::nullopt;
    for (const CallJson& one : json->is_array() ? *json : CallJson::array({*json})) {
      const auto call = read_call(one);
      if (!call) return std::nullopt;
      calls.push_back(*call);
    }
    text.remove_prefix(value_size(text));
  }
  return calls;
}

Calls read_named(std::string_view text, const ToolForm& form) {
  std::vector<ToolCall> calls;
  const size_t mark = form.behind_name.find_last_of("<[");  // what is sure to stand before the arguments
  for (text = trimmed(text); !text.empty(); text = trimmed(text)) {
    if (!calls.empty() && !take(text, form.begin)) return std::nullopt;
    if (!take(text, form.before_name)) return std::nullopt;
    const std::string_view name = take_name(text);
    if (name.empty() || !take_until(text, form.behind_name.substr(mark))) return std::nullopt;
    text = trimmed(text);
    const std::string_view arguments = text.substr(0, value_size(text));
    if (const auto json = parsed(arguments); !json || !json->is_object()) return std::nullopt;
    calls.push_back({std::string(name), std::string(arguments), {}});
    text.remove_prefix(arguments.size());
  }
  return calls;
}

// Whether a tool's parameter may be a text.
bool may_be_text(const CallJson* tools, std::string_view name, const std::string& key) {
  if (!tools) return false;
  for (const CallJson& tool : *tools) {
    const CallJson function = tool.value("function", CallJson::object());
    if (function.value("name", "") != name) continue;
    const auto member = [&](const CallJson& of, const std::string& of_name) {
      return of.is_object() ? of.value(of_name, CallJson()) : CallJson();
    };
    const CallJson type = member(member(member(member(function, "parameters"), "properties"), key), "type");
    return type == "string" || (type.is_array() && std::find(type.begin(), type.end(), "string") != type.end());
  }
  return false;
}

Calls read_tagged(std::string_view text, const ToolForm& form, const CallJson* tools) {
  if (!take(text, form.before_name)) return std::nullopt;
  const std::string_view name = take_name(text, ">");
  if (name.empty() || !take(text, form.behind_name)) return std::nullopt;
  CallJson arguments = CallJson::object();
  while (take(text, form.before_key)) {
    const auto key = take_until(text, form.behind_key);
    if (!key || !take_until(text, form.before_value)) return std::nullopt;
    auto value = take_until(text, form.behind_value);
    if (!value) return std::nullopt;
    if (form.before_value == "\n") {  // a value stands on lines of its own
      if (value->starts_with('\n')) value->remove_prefix(1);
      if (value->ends_with('\n')) value->remove_suffix(1);
    }
    const std::string of(trimmed(*key));
    const auto json = may_be_text(tools, name, of) ? std::nullopt : parsed(*value);
    arguments[of] = json ? *json : CallJson(std::string(*value));
  }
  take(text, form.behind_call);
  if (!trimmed(text).empty()) return std::nullopt;
  return std::vector{ToolCall{std::string(name), arguments.dump(), {}}};
}

constexpr int kMostNesting = 64;

std::optional<std::string_view> read_bare_key(std::string_view& text, std::string_view mark) {
  if (take(text, mark)) return take_until(text, mark);
  const std::string_view key = text.substr(0, text.find(':'));
  text.remove_prefix(key.size());
  return key;
}

// A text between marks, an object of bare keys, a list, or a scalar as JSON has it.
std::optional<CallJson> read_bare_value(std::string_view& text, std::string_view mark, int depth = 0) {
  if (depth > kMostNesting) return std::nullopt;
  if (take(text, mark)) {
    const auto value = take_until(text, mark);
    return value ? std::optional<CallJson>(std::string(*value)) : std::nullopt;
  }
  const bool object = take(text, "{"), list = !object && take(text, "[");
  if (!object && !list) {
    const std::string_view scalar = text.substr(0, text.find_first_of(",]}"));
    text.remove_prefix(scalar.size());
    const auto json = parsed(trimmed(scalar));
    return json ? *json : CallJson(std::string(trimmed(scalar)));
  }
  const std::string_view close = object ? "}" : "]";
  CallJson value = object ? CallJson::object() : CallJson::array();
  for (bool first = true; !take(text, close); first = false) {
    if (!first && !take(text, ",")) return std::nullopt;
    const auto key = object ? read_bare_key(text, mark) : std::nullopt;
    if (object && !(key && take(text, ":"))) return std::nullopt;
    const auto member = read_bare_value(text, mark, depth + 1);
    if (!member) return std::nullopt;
    if (object)
      value[std::string(trimmed(*key))] = *member;
    else
      value.push_back(*member);
  }
  return value;
}

Calls read_bare(std::string_view text, const ToolForm& form) {
  if (!take(text, form.before_name)) return std::nullopt;
  const std::string_view name = take_name(text);
  const auto arguments = read_bare_value(text, form.before_value);
  if (name.empty() || !arguments || !arguments->is_object() || !trimmed(text).empty()) return std::nullopt;
  return std::vector{ToolCall{std::string(name), arguments->dump(), {}}};
}

// What stands between the marks of a form.
Calls read_calls(std::string_view text, const ToolForm& form, const CallJson* tools) {
  switch (form.arguments) {
    case How::objects: return read_objects(text, form);
    case How::named: return read_named(text, form);
    case How::tagged: return read_tagged(text, form, tools);
    case How::bare: return read_bare(text, form);
  }
  return std::nullopt;
}

// ---- which form ----

// Whether a rendering, whose call's name is at `at`, has the call in this form.
bool writes_so(const ToolForm& form, std::string_view text, size_t at, const ToolCall& call) {
  const std::string_view before = text.substr(0, at), behind = text.substr(at + call.name.size());
  if (form.end.empty()) {  // nothing says where the call ends
    const std::string lead = std::string(form.begin) + std::string(form.before_name);
    return before.ends_with(lead) && (form.arguments == How::named || behind.starts_with(form.behind_name));
  }
  const size_t begin = before.rfind(form.begin), end = behind.find(form.end);
  if (begin == before.npos || end == behind.npos) return false;
  const size_t from = begin + form.begin.size();
  const Calls calls = read_calls(text.substr(from, at + call.name.size() + end - from), form, nullptr);
  return calls && calls->size() == 1 && calls->front().name == call.name &&
         parsed(calls->front().arguments) == parsed(call.arguments);
}

}  // namespace

std::span<const ToolForm> tool_forms() { return kToolForms; }

std::vector<std::string_view> form_texts(const ToolForm& f) {
  return {f.begin,      f.end,        f.before_name,  f.behind_name,  f.behind_call,
          f.before_key, f.behind_key, f.before_value, f.behind_value, f.may_lead};
}

const ToolForm* tool_form(const std::string& chat_template, const ChatTemplate::Inputs& like) {
  if (chat_template.find("tools") == chat_template.npos) return nullptr;
  const ToolCall call{"name_of_a_call", R"({"key":"value"})"};
  ChatTemplate::Inputs inputs = like;
  inputs.add_generation_prompt = false;
  const CallJson function = {{"name", call.name}, {"arguments", *parsed(call.arguments)}};
  inputs.messages = {{{"role", "user"}, {"content", "x"}},
                     {{"role", "assistant"},
                      {"content", ""},
                      {"tool_calls", {{{"id", "123456789"}, {"type", "function"}, {"function", function}}}}}};
  std::string text;
  try {
    text = ChatTemplate::parse(chat_template).render(inputs);
  } catch (const Error&) {  // of a template that takes no calls
    return nullptr;
  }
  const size_t at = text.rfind(call.name);
  if (at == text.npos) return nullptr;
  const auto found = std::find_if(std::begin(kToolForms), std::end(kToolForms),
                                  [&](const ToolForm& form) { return writes_so(form, text, at, call); });
  return found == std::end(kToolForms) ? nullptr : found;
}

const ToolForm* ToolForms::of(const std::string& chat_template, const ChatTemplate::Inputs& like) {
  constexpr size_t kMost = 64;  // arguments are the client's
  const std::string key = like.arguments.dump() + chat_template;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = found_.find(key); found != found_.end()) return found->second;
  }
  const ToolForm* form = tool_form(chat_template, like);
  const std::lock_guard lock(mutex_);
  if (found_.size() >= kMost) found_.clear();
  return found_[key] = form;
}

// ---- the parser ----

ToolCallParser::Found& ToolCallParser::Found::operator+=(const Found& more) {
  content += more.content;
  calls.insert(calls.end(), more.calls.begin(), more.calls.end());
  return *this;
}

ToolCallParser::Found ToolCallParser::push(std::string_view piece) {
  Found found;
  held_ += piece;
  if (form_ && form_->begin.empty() && !is_text_) {
    const std::string_view text = trimmed(held_);
    const std::string_view lead = form_->may_lead;
    in_call_ = text.starts_with('{') || text.starts_with('[') || (!lead.empty() && text.starts_with(lead));
    if (in_call_ || text.empty() || lead.starts_with(text)) return found;
    is_text_ = true;  // whatever comes
  }
  if (form_ && !form_->begin.empty())
    take_marked(found, false);
  else
    found.content = std::exchange(held_, {});
  return found;
}

// White space before and behind a call is kept back until text follows it.
void ToolCallParser::take_text(Found& found, std::string text, bool last) {
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

void ToolCallParser::take_marked(Found& found, bool last) {
  while (true) {
    if (!in_call_) {
      const size_t begin = held_.find(form_->begin);
      in_call_ = begin != held_.npos;
      std::string text = held_.substr(0, in_call_ ? begin : held_.size() - (last ? 0 : begun(held_, form_->begin)));
      held_.erase(0, text.size());
      take_text(found, std::move(text), last);
      if (!in_call_) return;
    }
    const size_t end = form_->end.empty() ? held_.npos : held_.find(form_->end);
    if (end == held_.npos && !last) return;
    const std::string_view body = std::string_view(held_).substr(form_->begin.size(), end - form_->begin.size());
    const size_t whole = end == held_.npos ? held_.size() : end + form_->end.size();
    in_call_ = false;
    if (const auto calls = read_calls(body, *form_, tools_.get()); calls && !calls->empty()) {
      found.calls.insert(found.calls.end(), calls->begin(), calls->end());
      behind_call_ = true;
      space_.clear();
    } else {
      take_text(found, held_.substr(0, whole), false);
    }
    held_.erase(0, whole);
  }
}

ToolCallParser::Found ToolCallParser::finish() {
  Found found;
  if (form_ && !form_->begin.empty()) {
    take_marked(found, true);
    return found;
  }
  const std::string text = std::exchange(held_, {});
  if (auto calls = in_call_ ? read_calls(text, *form_, tools_.get()) : std::nullopt; calls && !calls->empty())
    found.calls = std::move(*calls);
  else
    found.content += text;
  return found;
}

}  // namespace lathe
