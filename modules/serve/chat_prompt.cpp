#include "serve/chat_prompt.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "text/chat_template/encode_chat.h"

namespace lathe {
namespace {

constexpr std::ptrdiff_t kPromptTail = 16;  // tokens, more than any mark has

template <class F>
auto blamed_on(const std::string& field, const F& f) try {
  return f();
} catch (const ApiError&) {
  throw;
} catch (const Error& e) {
  throw ApiError(400, e.what(), field);
}

}  // namespace

ChatPrompt::ChatPrompt(const ServedModel& model, std::string field)
    : inputs(chat_inputs(model.tokenizer())), model_(model), field_(std::move(field)) {
  source();
}

const std::string& ChatPrompt::source() const {
  return *blamed_on(field_, [&] { return &model_.chat().chat_template(!inputs.tools.is_null()); });
}

void ChatPrompt::take_messages(nlohmann::ordered_json messages) {
  std::map<std::string, nlohmann::ordered_json> names;  // of calls, by their ids
  for (nlohmann::ordered_json& message : messages) {
    for (const auto& call : message.value("tool_calls", nlohmann::ordered_json::array()))
      if (const nlohmann::ordered_json id = call.value("id", nlohmann::ordered_json()); id.is_string())
        if (const auto function = call.find("function"); function != call.end() && function->is_object())
          names[id] = function->value("name", nlohmann::ordered_json());
    const auto id = message.find("tool_call_id");
    if (id == message.end() || !id->is_string() || message.contains("name")) continue;
    if (const auto found = names.find(*id); found != names.end()) message["name"] = found->second;
  }
  inputs.messages = std::move(messages);
}

void ChatPrompt::read_arguments(RequestFields& fields) {
  fields.read("chat_template_kwargs", [&](const OrderedJsonNode& node) {
    if (!node.value().is_object()) node.expected("an object");
    inputs.arguments = node.value();
  });
  inputs.add_generation_prompt = fields.flag("add_generation_prompt", true);
}

void ChatPrompt::take_tools(nlohmann::ordered_json tools, const ToolChoice& choice) {
  choice_ = choice;
  const bool any = tools.is_array() && !tools.empty() && choice.kind != ToolChoice::Kind::none;
  if (any) {
    inputs.tools = std::move(tools);
    tool_format_ = lathe::tool_format(source(), inputs);
    if (tool_format_ == ToolFormat::none)
      throw ApiError(400, "the model's chat template takes no tools, or in a form that is not known", "tools");
  }
  if (choice.kind == ToolChoice::Kind::required)
    throw ApiError(400, "tool_choice: nothing makes the model call a tool", "tool_choice", "unsupported_parameter");
}

void ChatPrompt::think(bool wanted, const std::optional<std::string>& effort, const std::string& field) {
  const auto knows = [&](const char* name) { return source().find(name) != std::string::npos; };
  const auto give = [&](const char* name, const nlohmann::ordered_json& value) {
    if (!inputs.arguments.contains(name)) inputs.arguments[name] = value;
  };
  const bool efforts = knows("reasoning_effort"), thinks = !thinking().end.empty() || efforts;
  if (efforts && (effort || !wanted)) give("reasoning_effort", effort.value_or("none"));
  if (knows("enable_thinking")) return give("enable_thinking", wanted);
  if (wanted != thinks && !efforts)
    throw ApiError(400,
                   fmt::format("{}: the model's chat template {}", field,
                               wanted ? "knows no thinking" : "cannot turn its thinking off"),
                   field, "unsupported_parameter");
}

const ChatTemplate::Inputs& ChatPrompt::given() const {
  if (inputs.messages.empty()) throw ApiError(400, field_ + " is missing", field_);
  return inputs;
}

std::string ChatPrompt::render() const {
  return blamed_on(field_, [&] { return ChatTemplate::parse(source(), model_.id).render(given()); });
}

std::vector<int32_t> ChatPrompt::encode() const {
  std::vector<int32_t> ids = blamed_on(field_, [&] { return model_.chat().encode(given()); });
  return model_.calls->with_own_tokens(std::move(ids), inputs.messages, model_.chat().request({0}).stop_tokens);
}

ThinkingParser ChatPrompt::thinking_parser(const std::vector<int32_t>& prompt) const {
  const std::vector<int32_t> tail(prompt.end() - std::min(std::ssize(prompt), kPromptTail), prompt.end());
  return {thinking(), model_.tokenizer().decode(tail)};
}

}  // namespace lathe
