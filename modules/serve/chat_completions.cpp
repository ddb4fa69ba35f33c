// /v1/chat/completions: the next message of a conversation.
#include <nlohmann/json.hpp>
#include <set>

#include "serve/chat_messages.h"
#include "serve/endpoints.h"
#include "serve/logprobs.h"
#include "serve/openai_answer.h"
#include "text/chat_template/encode_chat.h"

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
  static ChatJson choice(int64_t index, const char* key, ChatJson message, ChatJson logprobs, ChatJson finish_reason);
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
  fields.only("tools", ChatJson::array());
  fields.only("tool_choice", "none");
  fields.only("functions", ChatJson::array());
  fields.only("function_call", "none");
  fields.only("store", false);
  fields.ignore({"parallel_tool_calls"});  // of tools, which there are none
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
    fields.read(name, [&](const OrderedJsonNode& node) { most = node.integer(1); });
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

// The end token is no part of the content, so its probability is none either.
std::optional<ChatJson> ChatAnswer::delta(size_t, const GenerationEvent& event) {
  const bool ends = event.completion && event.completion->finish_reason == FinishReason::stop && event.text.empty();
  ChatJson message = ChatJson::object(), logprobs = nullptr, finish_reason = nullptr;
  if (!event.text.empty()) message["content"] = event.text;
  if (event.logprobs && !ends)
    logprobs = {{"content", ChatJson::array({chat_logprob(model_.tokenizer(), *event.logprobs)})},
                {"refusal", nullptr}};
  if (event.completion) finish_reason = name(event.completion->finish_reason);
  if (message.empty() && logprobs.is_null() && finish_reason.is_null()) return std::nullopt;
  return choice(event.sequence, "delta", message, logprobs, finish_reason);
}

ChatJson ChatAnswer::whole(size_t, const Completion& c) {
  ChatJson logprobs = nullptr;
  if (options_.logprobs) {
    logprobs = {{"content", ChatJson::array()}, {"refusal", nullptr}};
    for (const TokenLogprobs& of : c.logprobs) logprobs["content"].push_back(chat_logprob(model_.tokenizer(), of));
  }
  return choice(c.sequence, "message", {{"role", "assistant"}, {"content", c.text.value_or("")}, {"refusal", nullptr}},
                logprobs, name(c.finish_reason));
}

}  // namespace

std::unique_ptr<Answer> make_chat_completion(const ServedModel& model, const OrderedJsonNode& body) {
  return std::make_unique<ChatAnswer>(model, body);
}

}  // namespace lathe
