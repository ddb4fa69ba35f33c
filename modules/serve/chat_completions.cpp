// /v1/chat/completions: the next message of a conversation.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "serve/chat_fields.h"
#include "serve/chat_messages.h"
#include "serve/endpoints.h"
#include "serve/logprobs.h"
#include "serve/openai_answer.h"
#include "serve/response_format.h"
#include "serve/turn.h"

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
  void take(Exchange& exchange, size_t request, const GenerationEvent& event) override;
  std::optional<ChatJson> delta(size_t request, const GenerationEvent& event) override;
  ChatJson whole(size_t request, const Completion& completion) override;
  static ChatJson choice(int64_t index, const char* key, ChatJson message, ChatJson logprobs, ChatJson finish_reason);

  std::vector<Turn> turns_;  // by choice
  Turn::Parts added_;        // by the last event
};

ChatAnswer::ChatAnswer(const ServedModel& model, const OrderedJsonNode& body)
    : OpenAiAnswer(model, "chatcmpl", "chat.completion", "chat.completion.chunk") {
  RequestFields fields(body);
  read_common(fields);
  read_logprobs(fields);
  const std::optional<int64_t> most = read_length(fields);
  ChatPrompt chat(model);
  fields.read("messages", [&](const OrderedJsonNode& node) { chat.take_messages(chat_messages(node)); });
  chat.read_arguments(fields);
  read_chat_tools(fields, chat);
  read_effort(fields, "reasoning_effort", chat);
  read_response_format(fields, "response_format", options_);
  fields.only("modalities", ChatJson::array({"text"}));
  fields.only("functions", ChatJson::array());
  fields.only("function_call", "none");
  fields.only("store", false);
  fields.calls("prompt", "messages");
  fields.finish();
  std::vector<int32_t> prompt = chat.encode();
  turns_.assign(static_cast<size_t>(options_.num_sequences), Turn(model, chat, prompt, "call"));
  add_request(fields, std::move(prompt), most, [&](Request& request) { chat.constrain(request); });
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

// `first`: the index of the first one, in a stream.
ChatJson tool_calls_json(const std::vector<ToolCall>& calls, std::optional<size_t> first) {
  ChatJson list = ChatJson::array();
  for (const ToolCall& call : calls) {
    ChatJson json = ChatJson::object();
    if (first) json["index"] = (*first)++;
    json["id"] = call.id;
    json["type"] = "function";
    json["function"] = {{"name", call.name}, {"arguments", call.arguments}};
    list.push_back(std::move(json));
  }
  return list;
}

// The end token is no part of the content, so its probability is none either.
bool ended_by_token(const ServedModel& model, const Completion& c) {
  const std::vector<int32_t> ends = model.chat().request({}).stop_tokens;
  return c.finish_reason == FinishReason::stop && c.stop_string.empty() && !c.tokens.empty() &&
         std::find(ends.begin(), ends.end(), c.tokens.back()) != ends.end();
}

void ChatAnswer::take(Exchange& exchange, size_t request, const GenerationEvent& event) {
  Turn& turn = turns_[static_cast<size_t>(event.sequence)];
  added_ = turn.take(event);
  if (event.completion) reasoning_tokens_ += turn.reasoning_tokens();
  OpenAiAnswer::take(exchange, request, event);
}

std::optional<ChatJson> ChatAnswer::delta(size_t, const GenerationEvent& event) {
  const size_t calls = turns_[static_cast<size_t>(event.sequence)].whole().calls.size();
  const bool ends = event.completion && ended_by_token(model_, *event.completion);
  ChatJson message = ChatJson::object(), logprobs = nullptr, finish_reason = nullptr;
  if (!added_.reasoning.empty()) message["reasoning_content"] = added_.reasoning;
  if (!added_.content.empty()) message["content"] = added_.content;
  if (!added_.calls.empty()) message["tool_calls"] = tool_calls_json(added_.calls, calls - added_.calls.size());
  if (event.logprobs && !ends)
    logprobs = {{"content", ChatJson::array({chat_logprob(model_.tokenizer(), *event.logprobs)})},
                {"refusal", nullptr}};
  if (event.completion) finish_reason = calls > 0 ? "tool_calls" : name(event.completion->finish_reason);
  if (message.empty() && logprobs.is_null() && finish_reason.is_null()) return std::nullopt;
  return choice(event.sequence, "delta", message, logprobs, finish_reason);
}

ChatJson ChatAnswer::whole(size_t, const Completion& c) {
  ChatJson logprobs = nullptr;
  if (options_.logprobs) {
    logprobs = {{"content", ChatJson::array()}, {"refusal", nullptr}};
    const size_t shown = c.logprobs.size() - (ended_by_token(model_, c) ? 1 : 0);
    for (size_t i = 0; i < shown; ++i) logprobs["content"].push_back(chat_logprob(model_.tokenizer(), c.logprobs[i]));
  }
  const Turn::Parts& turn = turns_[static_cast<size_t>(c.sequence)].whole();
  ChatJson message = {{"role", "assistant"}, {"content", turn.content}, {"refusal", nullptr}};
  if (!turn.reasoning.empty()) message["reasoning_content"] = turn.reasoning;
  if (turn.calls.empty()) return choice(c.sequence, "message", message, logprobs, name(c.finish_reason));
  if (turn.content.empty()) message["content"] = nullptr;
  message["tool_calls"] = tool_calls_json(turn.calls, {});
  return choice(c.sequence, "message", message, logprobs, "tool_calls");
}

}  // namespace

std::unique_ptr<Answer> make_chat_completion(const ServedModel& model, const OrderedJsonNode& body) {
  return std::make_unique<ChatAnswer>(model, body);
}

}  // namespace lathe
