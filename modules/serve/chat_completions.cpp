// /v1/chat/completions: the next message of a conversation.
#include <map>
#include <nlohmann/json.hpp>

#include "serve/chat_messages.h"
#include "serve/endpoints.h"
#include "serve/logprobs.h"
#include "serve/openai_answer.h"
#include "serve/tool_calls.h"
#include "text/chat_template/encode_chat.h"
#include "text/chat_template/messages.h"

namespace lathe {
namespace {

using ChatJson = nlohmann::ordered_json;
constexpr int64_t kMostTopLogprobs = 20;  // OpenAI's

class ChatAnswer final : public OpenAiAnswer {
 public:
  ChatAnswer(const ServedModel& model, const OrderedJsonNode& body);
  void begin(Exchange& exchange) override;

 private:
  std::optional<int64_t> read_length(RequestFields& fields);
  void read_logprobs(RequestFields& fields);
  std::optional<ChatJson> delta(size_t request, const GenerationEvent& event) override;
  ChatJson whole(size_t request, const Completion& completion) override;
  void read_tools(RequestFields& fields, ChatTemplate::Inputs& inputs);
  ChatJson tool_calls(const std::vector<ToolCall>& calls, size_t first, bool indexed) const;
  static ChatJson choice(int64_t index, const char* key, ChatJson message, ChatJson logprobs, ChatJson finish_reason);

  // Of one choice of a stream.
  struct Stream {
    ToolCallParser parser;
    size_t calls = 0;
  };
  ToolFormat tool_format_ = ToolFormat::none;
  bool one_call_ = false;
  std::map<int64_t, Stream> streams_;
};

ChatAnswer::ChatAnswer(const ServedModel& model, const OrderedJsonNode& body)
    : OpenAiAnswer(model, "chatcmpl", "chat.completion", "chat.completion.chunk") {
  RequestFields fields(body);
  read_common(fields);
  read_logprobs(fields);
  const std::optional<int64_t> most = read_length(fields);
  ChatTemplate::Inputs inputs = chat_inputs(model.tokenizer());
  fields.read("messages", [&](const OrderedJsonNode& node) { inputs.messages = chat_messages(node); });
  fields.read("chat_template_kwargs", [&](const OrderedJsonNode& node) {
    if (!node.value().is_object()) node.expected("an object");
    inputs.arguments = node.value();
  });
  fields.read("add_generation_prompt",
              [&](const OrderedJsonNode& node) { inputs.add_generation_prompt = node.boolean(); });
  fields.only("response_format", {{"type", "text"}});
  fields.only("modalities", ChatJson::array({"text"}));
  read_tools(fields, inputs);
  fields.only("functions", ChatJson::array());
  fields.only("function_call", "none");
  fields.only("store", false);
  fields.calls("prompt", "messages");
  fields.finish();
  if (inputs.messages.empty()) throw ApiError(400, "messages is missing", "messages");
  std::vector<int32_t> prompt;
  try {
    prompt = model.chat().encode(inputs);
  } catch (const Error& e) {
    throw ApiError(400, e.what(), "messages");
  }
  add_request(fields, std::move(prompt), most);
}

// Both names mean the same; the newer one comes first.
std::optional<int64_t> ChatAnswer::read_length(RequestFields& fields) {
  std::optional<int64_t> most;
  for (const char* name : {"max_tokens", "max_completion_tokens"})
    fields.read(name, [&](const OrderedJsonNode& node) {
      most = node.integer(1);
      fields.calls("max_new_tokens", name);
    });
  return most;
}

// A call is found in what the model writes; nothing makes it write one.
void ChatAnswer::read_tools(RequestFields& fields, ChatTemplate::Inputs& inputs) {
  fields.read("tools", [&](const OrderedJsonNode& node) {
    check_tools(node.value(), node.where());
    for (size_t i = 0; i < node.size(); ++i) {
      if (node.at(i).at("type").string() != "function") node.at(i).at("type").expected("\"function\"");
      node.at(i).at("function").at("name").string();
    }
    if (node.size() > 0) inputs.tools = node.value();
  });
  fields.read("tool_choice", [&](const OrderedJsonNode& node) {
    if (node.value() == "none")
      inputs.tools = nullptr;
    else if (node.value() != "auto")
      throw ApiError(400, "tool_choice is not supported but for \"auto\" and \"none\"", "tool_choice",
                     "unsupported_parameter");
  });
  one_call_ = !fields.flag("parallel_tool_calls", true);
  if (inputs.tools.is_null()) return;
  tool_format_ = tool_format(model_.chat().chat_template(true));
  if (tool_format_ == ToolFormat::none)
    throw ApiError(400, "the model's chat template takes no tools, or in a form that is not known", "tools");
}

void ChatAnswer::read_logprobs(RequestFields& fields) {
  const bool wanted = fields.flag("logprobs", false);
  if (wanted) options_.logprobs = 0;
  fields.read("top_logprobs", [&](const OrderedJsonNode& node) {
    const int64_t k = node.integer(0, kMostTopLogprobs);
    if (!wanted && k > 0) throw ApiError(400, "top_logprobs needs logprobs: true", "top_logprobs");
    if (wanted) options_.logprobs = k;
  });
}

ChatJson ChatAnswer::choice(int64_t index, const char* key, ChatJson message, ChatJson logprobs,
                            ChatJson finish_reason) {
  return {{"index", index},
          {key, std::move(message)},
          {"logprobs", std::move(logprobs)},
          {"finish_reason", std::move(finish_reason)}};
}

void ChatAnswer::begin(Exchange& exchange) {
  ChatJson choices = ChatJson::array();
  for (int64_t i = 0; i < options_.num_sequences; ++i)
    choices.push_back(choice(i, "delta", {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr));
  send(exchange, choices);
}

ChatJson ChatAnswer::tool_calls(const std::vector<ToolCall>& calls, size_t first, bool indexed) const {
  ChatJson list = ChatJson::array();
  for (size_t i = 0; i < calls.size() && !(one_call_ && first + i > 0); ++i) {
    ChatJson call = ChatJson::object();
    if (indexed) call["index"] = first + i;
    call["id"] = new_id("call");
    call["type"] = "function";
    call["function"] = {{"name", calls[i].name}, {"arguments", calls[i].arguments}};
    list.push_back(std::move(call));
  }
  return list;
}

// The end token is no part of the content, so its probability is none either.
bool ended_by_token(const Completion& c) { return c.finish_reason == FinishReason::stop && c.stop_string.empty(); }

std::optional<ChatJson> ChatAnswer::delta(size_t, const GenerationEvent& event) {
  Stream& of = streams_.try_emplace(event.sequence, Stream{ToolCallParser(tool_format_)}).first->second;
  ToolCallParser::Found found = of.parser.push(event.text);
  if (event.completion) found += of.parser.finish();
  const bool ends = event.completion && ended_by_token(*event.completion);
  ChatJson message = ChatJson::object(), logprobs = nullptr, finish_reason = nullptr;
  if (!found.content.empty()) message["content"] = found.content;
  if (!found.calls.empty()) message["tool_calls"] = tool_calls(found.calls, of.calls, true);
  of.calls += found.calls.size();
  if (event.logprobs && !ends)
    logprobs = {{"content", ChatJson::array({chat_logprob(model_.tokenizer(), *event.logprobs)})},
                {"refusal", nullptr}};
  if (event.completion) finish_reason = of.calls > 0 ? "tool_calls" : name(event.completion->finish_reason);
  if (message.empty() && logprobs.is_null() && finish_reason.is_null()) return std::nullopt;
  return choice(event.sequence, "delta", message, logprobs, finish_reason);
}

ChatJson ChatAnswer::whole(size_t, const Completion& c) {
  ChatJson logprobs = nullptr;
  if (options_.logprobs) {
    logprobs = {{"content", ChatJson::array()}, {"refusal", nullptr}};
    const size_t shown = c.logprobs.size() - (ended_by_token(c) ? 1 : 0);
    for (size_t i = 0; i < shown; ++i) logprobs["content"].push_back(chat_logprob(model_.tokenizer(), c.logprobs[i]));
  }
  ToolCallParser parser(tool_format_);
  ToolCallParser::Found found = parser.push(c.text.value_or(""));
  found += parser.finish();
  ChatJson message = {{"role", "assistant"}, {"content", found.content}, {"refusal", nullptr}};
  if (found.calls.empty()) return choice(c.sequence, "message", message, logprobs, name(c.finish_reason));
  if (found.content.empty()) message["content"] = nullptr;
  message["tool_calls"] = tool_calls(found.calls, 0, false);
  return choice(c.sequence, "message", message, logprobs, "tool_calls");
}

}  // namespace

std::unique_ptr<Answer> make_chat_completion(const ServedModel& model, const OrderedJsonNode& body) {
  return std::make_unique<ChatAnswer>(model, body);
}

}  // namespace lathe
