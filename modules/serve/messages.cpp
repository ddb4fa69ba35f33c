// Anthropic's /v1/messages and /v1/messages/count_tokens.
#include <nlohmann/json.hpp>

#include "serve/chat_messages.h"
#include "serve/endpoints.h"
#include "serve/openai_answer.h"
#include "text/chat_template/encode_chat.h"

namespace lathe {
namespace {

using MessageJson = nlohmann::ordered_json;

// The conversation's ids; names what both endpoints know of it.
std::vector<int32_t> read_conversation(RequestFields& fields, const ServedModel& model) {
  check_model(fields, model);
  ChatTemplate::Inputs inputs = chat_inputs(model.tokenizer());
  MessageJson system;
  fields.read("system", [&](const OrderedJsonNode& node) { system = node.value(); });
  fields.read("messages", [&](const OrderedJsonNode& node) { inputs.messages = anthropic_messages(system, node); });
  fields.read("chat_template_kwargs", [&](const OrderedJsonNode& node) {
    if (!node.value().is_object()) node.expected("an object");
    inputs.arguments = node.value();
  });
  fields.only("tools", MessageJson::array());
  fields.only("tool_choice", {{"type", "none"}});
  fields.only("thinking", {{"type", "disabled"}});
  if (inputs.messages.empty()) throw ApiError(400, "messages is missing", "messages");
  try {
    return model.chat().encode(inputs);
  } catch (const Error& e) {
    throw ApiError(400, e.what(), "messages");
  }
}

class MessageAnswer final : public Answer {
 public:
  MessageAnswer(const ServedModel& model, const OrderedJsonNode& body);
  void begin(Exchange& exchange) override;
  void take(Exchange& exchange, size_t request, const GenerationEvent& event) override;
  void finish(Exchange& exchange) override;
  void fail(Exchange& exchange, const ApiError& error) override {
    send(exchange, error.anthropic());
    exchange.end();
  }

 private:
  static void send(Exchange& exchange, const MessageJson& event);
  MessageJson message(MessageJson content, MessageJson stop_reason, MessageJson stop_sequence) const;
  MessageJson usage() const;
  const char* stop_reason() const;
  MessageJson stop_sequence() const;

  std::string id_, model_id_;
  int64_t prompt_tokens_ = 0;
  Completion completion_;
};

MessageAnswer::MessageAnswer(const ServedModel& model, const OrderedJsonNode& body)
    : id_(new_id("msg")), model_id_(model.id) {
  RequestFields fields(body);
  RequestOptions options;
  stream = fields.flag("stream", false);
  fields.sampling(options);
  fields.option(options, "stop_sequences", "stop");
  fields.option(options, "max_tokens", "max_new_tokens");
  fields.ignore({"metadata", "service_tier", "anthropic_version", "anthropic_beta", "betas", "context_management"});
  std::vector<int32_t> prompt = read_conversation(fields, model);
  fields.finish();
  if (!fields.given("max_tokens")) throw ApiError(400, "max_tokens is missing", "max_tokens");
  prompt_tokens_ = std::ssize(prompt);
  const int64_t room = std::max<int64_t>(1, model.engine.longest_sequence() - prompt_tokens_);
  options.max_new_tokens = std::min(options.max_new_tokens, room);  // clients send what their own models can do
  Request request = options.over(model.chat().request(std::move(prompt)));
  try {
    model.engine.check_request(request);
  } catch (const RequestError& e) {
    throw fields.blame(e);
  }
  requests.push_back(std::move(request));
}

void MessageAnswer::send(Exchange& exchange, const MessageJson& event) {
  exchange.write("event: " + event["type"].get<std::string>() + "\ndata: " + dump_json(event) + "\n\n");
}

MessageJson MessageAnswer::usage() const {
  const int64_t cached = completion_.cached_tokens;
  return {{"input_tokens", prompt_tokens_ - cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", cached},
          {"output_tokens", completion_.tokens.size()}};
}

MessageJson MessageAnswer::message(MessageJson content, MessageJson stop_reason, MessageJson stop_sequence) const {
  return {{"id", id_},
          {"type", "message"},
          {"role", "assistant"},
          {"model", model_id_},
          {"content", std::move(content)},
          {"stop_reason", std::move(stop_reason)},
          {"stop_sequence", std::move(stop_sequence)},
          {"usage", usage()}};
}

const char* MessageAnswer::stop_reason() const {
  if (!completion_.stop_string.empty()) return "stop_sequence";
  return completion_.finish_reason == FinishReason::length ? "max_tokens" : "end_turn";
}

MessageJson MessageAnswer::stop_sequence() const {
  return completion_.stop_string.empty() ? MessageJson(nullptr) : MessageJson(completion_.stop_string);
}

void MessageAnswer::begin(Exchange& exchange) {
  send(exchange, {{"type", "message_start"}, {"message", message(MessageJson::array(), nullptr, nullptr)}});
  send(exchange, {{"type", "content_block_start"}, {"index", 0}, {"content_block", {{"type", "text"}, {"text", ""}}}});
}

void MessageAnswer::take(Exchange& exchange, size_t, const GenerationEvent& event) {
  if (stream && !event.text.empty())
    send(exchange,
         {{"type", "content_block_delta"}, {"index", 0}, {"delta", {{"type", "text_delta"}, {"text", event.text}}}});
  if (event.completion) completion_ = *event.completion;
}

void MessageAnswer::finish(Exchange& exchange) {
  if (!stream) {
    const MessageJson content = MessageJson::array({{{"type", "text"}, {"text", completion_.text.value_or("")}}});
    return exchange.respond(200, dump_json(message(content, stop_reason(), stop_sequence())));
  }
  send(exchange, {{"type", "content_block_stop"}, {"index", 0}});
  send(exchange, {{"type", "message_delta"},
                  {"delta", {{"stop_reason", stop_reason()}, {"stop_sequence", stop_sequence()}}},
                  {"usage", usage()}});
  send(exchange, {{"type", "message_stop"}});
  exchange.end();
}

}  // namespace

std::unique_ptr<Answer> make_message(const ServedModel& model, const OrderedJsonNode& body) {
  return std::make_unique<MessageAnswer>(model, body);
}

nlohmann::ordered_json count_message_tokens(const ServedModel& model, const OrderedJsonNode& body) {
  RequestFields fields(body);
  const size_t tokens = read_conversation(fields, model).size();
  fields.finish();
  return {{"input_tokens", tokens}};
}

}  // namespace lathe
