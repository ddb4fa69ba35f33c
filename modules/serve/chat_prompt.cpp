#include "serve/chat_prompt.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "serve/text_marks.h"
#include "serve/tool_grammar.h"
#include "text/chat_template/encode_chat.h"

namespace lathe {
namespace {

constexpr uint32_t kMostCalls = 16;  // of a turn that must call tools

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
    tool_form_ = model_.tool_forms->of(source(), inputs);
    if (!tool_form_)
      throw ApiError(400, "the model's chat template takes no tools, or in a form that is not known", "tools");
  }
  if (choice.kind != ToolChoice::Kind::required) return;
  const auto is_named = [&](const auto& tool) { return tool["function"]["name"] == choice.name; };
  if (!any || (!choice.name.empty() && std::none_of(inputs.tools.begin(), inputs.tools.end(), is_named)))
    throw ApiError(400, "tool_choice: there is no such tool to call", "tool_choice");
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

// The end of the prompt, without white space.
std::string ChatPrompt::tail(const std::vector<int32_t>& prompt, std::ptrdiff_t tokens) const {
  const auto begin = prompt.end() - std::min(std::ssize(prompt), tokens);
  std::string text = model_.tokenizer().decode(std::vector<int32_t>(begin, prompt.end()));
  text.erase(text.find_last_not_of(kSpace) + 1);
  return text;
}

std::ptrdiff_t ChatPrompt::thinking_tokens(const std::vector<int32_t>& prompt) const {
  const ThinkingMarks marks = thinking();
  const std::string end = tail(prompt);
  if (marks.end.empty() || !(end.ends_with(marks.begin) || end.ends_with(marks.end))) return 0;
  for (std::ptrdiff_t n = 1; n <= kPromptTail; ++n)
    if (tail(prompt, n).starts_with(marks.begin)) return n;
  return 0;
}

ThinkingParser ChatPrompt::thinking_parser(const std::vector<int32_t>& prompt) const {
  return {thinking(), tail(prompt)};
}

// Special tokens in a text may be spelled by ordinary ones as well.
GrammarPart ChatPrompt::spelled(GrammarBuilder& g, std::string_view text) const {
  std::vector<GrammarPart> parts;
  while (!text.empty()) {
    std::string first;  // of the special tokens in it, the longest of those that begin there
    size_t at = text.size();
    for (const int32_t id : model_.tokenizer().special_tokens()) {
      const std::string token = model_.tokenizer().token_text(id);
      const size_t found = token.empty() ? text.npos : text.find(token);
      if (found < at || (found == at && token.size() > first.size())) {
        at = found;
        first = token;
      }
    }
    parts.push_back(g.text(text.substr(0, at)));
    if (!first.empty()) parts.push_back(g.token(first));
    text.remove_prefix(at + first.size());
  }
  return parts.empty() ? g.text("") : g.sequence(std::move(parts));
}

GrammarPart ChatPrompt::calls(GrammarBuilder& g) const {
  nlohmann::ordered_json tools = inputs.tools;
  if (!choice_.name.empty())
    std::erase_if(tools.get_ref<nlohmann::ordered_json::array_t&>(),
                  [&](const auto& tool) { return tool["function"]["name"] != choice_.name; });
  const GrammarPart call = call_grammar(g, *tool_form_, tools, [&](std::string_view text) { return spelled(g, text); });
  const bool several = choice_.parallel && choice_.name.empty() && tool_form_->repeats;
  if (!several) return call;
  return g.sequence({call, g.repeat(g.sequence({g.optional(g.text("\n")), call}), 0, kMostCalls - 1)});
}

void ChatPrompt::constrain(Request& request) const {
  const ThinkingMarks marks = thinking();
  request.kept_marks = {std::string(marks.begin), std::string(marks.end)};
  for (const std::string_view text : marks.frame) request.kept_marks.emplace_back(text);
  if (tool_form_)
    for (const std::string_view text : form_texts(*tool_form_)) request.kept_marks.emplace_back(text);
  const bool required = choice_.kind == ToolChoice::Kind::required;
  if (!request.grammar && !required) return;
  blamed_on("tools", [&] {
    GrammarBuilder g = request.grammar ? GrammarBuilder(*request.grammar) : GrammarBuilder();
    std::vector<GrammarPart> answers;
    if (request.grammar && !required) answers.push_back(request.grammar->root);
    if (tool_form_) answers.push_back(calls(g));
    GrammarPart answer = g.any_of(std::move(answers));
    if (!marks.end.empty()) {
      const std::string end = tail(request.prompt);
      const GrammarPart thought = g.sequence(
          {g.up_to(marks.end), g.repeat(g.text("\n"), 0, 2), g.optional(spelled(g, marks.frame[0])), answer});
      if (end.ends_with(marks.begin))
        answer = thought;
      else if (!end.ends_with(marks.end))
        answer = g.any_of({g.sequence({spelled(g, marks.begin), thought}), answer});
    }
    request.grammar = g.finish(answer);
  });
}

}  // namespace lathe
