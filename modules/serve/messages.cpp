// Anthropic's /v1/messages and /v1/messages/count_tokens.
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/strict_json.h"
#include "serve/chat_fields.h"
#include "serve/chat_messages.h"
#include "serve/endpoints.h"
#include "serve/openai_answer.h"
#include "serve/response_format.h"
#include "serve/turn.h"

namespace lathe {
namespace {

using MessageJson = nlohmann::ordered_json;

// Names what both endpoints know of a conversation. `shows_thinking`: whether the answer holds it.
ChatPrompt read_conversation(RequestFields& fields, const ServedModel& model, RequestOptions& options,
                             bool& shows_thinking) {
  ChatPrompt chat(model);
  MessageJson system;
  fields.read("system", [&](const OrderedJsonNode& node) { system = node.value(); });
  fields.read("messages", [&](const OrderedJsonNode& node) { chat.take_messages(anthropic_messages(system, node)); });
  chat.read_arguments(fields);
  read_message_tools(fields, chat);
  read_thinking(fields, chat, shows_thinking);
  fields.read("output_config", [&](const OrderedJsonNode& node) {
    RequestFields of(node);
    read_effort(of, "effort", chat);
    read_response_format(of, "format", options);
    fields.calls("json_schema", "output_config");
    of.finish();
  });
  fields.ignore({"cache_control", "context_management", "metadata"});
  return chat;
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
  void show(Exchange& exchange, const Turn::Parts& parts);
  void show_text(Exchange& exchange, const char* type, const std::string& text);
  void close_block(Exchange& exchange);
  void start_block(Exchange& exchange, const MessageJson& block);
  void change_block(Exchange& exchange, const MessageJson& delta) const;
  MessageJson content() const;
  static void send(Exchange& exchange, const MessageJson& event);
  MessageJson message(MessageJson content, MessageJson stop_reason, MessageJson stop_sequence) const;
  MessageJson usage() const;
  const char* stop_reason() const;
  MessageJson stop_sequence() const;

  std::string id_, model_id_;
  int64_t prompt_tokens_ = 0;
  Completion completion_;
  std::optional<Turn> turn_;
  bool shows_thinking_ = false;
  int64_t blocks_ = 0;      // that were ended
  std::string open_block_;  // the type of the one that is not ended yet
};

MessageAnswer::MessageAnswer(const ServedModel& model, const OrderedJsonNode& body)
    : id_(new_id("msg")), model_id_(model.id) {
  RequestFields fields(body);
  RequestOptions options;
  stream = fields.flag("stream", false);
  fields.sampling(options);
  fields.option(options, "stop_sequences", "stop");
  fields.option(options, "max_tokens", "max_new_tokens");
  fields.ignore({"service_tier", "anthropic_version", "anthropic_beta", "betas", "inference_geo", "diagnostics"});
  const ChatPrompt chat = read_conversation(fields, model, options, shows_thinking_);
  fields.calls("prompt", "messages");
  fields.finish();
  if (!fields.given("max_tokens")) throw ApiError(400, "max_tokens is missing", "max_tokens");
  std::vector<int32_t> prompt = chat.encode();
  turn_.emplace(model, chat, prompt, "toolu");
  prompt_tokens_ = std::ssize(prompt);
  const int64_t room = std::max<int64_t>(1, model.engine.longest_sequence() - prompt_tokens_);
  options.max_new_tokens = std::min(options.max_new_tokens, room);  // clients send what their own models can do
  requests.push_back(
      make_request(model, fields, options, std::move(prompt), [&](Request& request) { chat.constrain(request); }));
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
  if (!turn_->whole().calls.empty()) return "tool_use";
  if (!completion_.stop_string.empty()) return "stop_sequence";
  return completion_.finish_reason == FinishReason::length ? "max_tokens" : "end_turn";
}

MessageJson MessageAnswer::stop_sequence() const {
  return completion_.stop_string.empty() ? MessageJson(nullptr) : MessageJson(completion_.stop_string);
}

void MessageAnswer::begin(Exchange& exchange) {
  send(exchange, {{"type", "message_start"}, {"message", message(MessageJson::array(), nullptr, nullptr)}});
}

void MessageAnswer::start_block(Exchange& exchange, const MessageJson& block) {
  open_block_ = block["type"];
  send(exchange, {{"type", "content_block_start"}, {"index", blocks_}, {"content_block", block}});
}

void MessageAnswer::change_block(Exchange& exchange, const MessageJson& delta) const {
  send(exchange, {{"type", "content_block_delta"}, {"index", blocks_}, {"delta", delta}});
}

void MessageAnswer::close_block(Exchange& exchange) {
  if (open_block_.empty()) return;
  // What others sign their thinking with; clients read it.
  if (open_block_ == "thinking") change_block(exchange, {{"type", "signature_delta"}, {"signature", ""}});
  open_block_.clear();
  send(exchange, {{"type", "content_block_stop"}, {"index", blocks_++}});
}

// `type`: text or thinking, which is also the name of what a block of it holds.
void MessageAnswer::show_text(Exchange& exchange, const char* type, const std::string& text) {
  if (text.empty()) return;
  if (open_block_ != type) {
    close_block(exchange);
    MessageJson block = {{"type", type}, {type, ""}};
    if (type == std::string_view("thinking")) block["signature"] = "";
    start_block(exchange, block);
  }
  change_block(exchange, {{"type", std::string(type) + "_delta"}, {type, text}});
}

void MessageAnswer::show(Exchange& exchange, const Turn::Parts& parts) {
  if (shows_thinking_) show_text(exchange, "thinking", parts.reasoning);
  show_text(exchange, "text", parts.content);
  for (const ToolCall& call : parts.calls) {
    close_block(exchange);
    start_block(exchange,
                {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", MessageJson::object()}});
    change_block(exchange, {{"type", "input_json_delta"}, {"partial_json", call.arguments}});
    close_block(exchange);
  }
}

void MessageAnswer::take(Exchange& exchange, size_t, const GenerationEvent& event) {
  if (event.completion) completion_ = *event.completion;
  const Turn::Parts parts = turn_->take(event);
  if (stream) show(exchange, parts);
}

MessageJson MessageAnswer::content() const {
  const Turn::Parts& turn = turn_->whole();
  MessageJson blocks = MessageJson::array();
  if (shows_thinking_ && !turn.reasoning.empty())
    blocks.push_back({{"type", "thinking"}, {"thinking", turn.reasoning}, {"signature", ""}});
  if (!turn.content.empty() || turn.calls.empty()) blocks.push_back({{"type", "text"}, {"text", turn.content}});
  for (const ToolCall& call : turn.calls) {
    const MessageJson input = parse_ordered_json(call.arguments, "tool call");
    blocks.push_back({{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", input}});
  }
  return blocks;
}

void MessageAnswer::finish(Exchange& exchange) {
  if (!stream) return exchange.respond(200, dump_json(message(content(), stop_reason(), stop_sequence())));
  close_block(exchange);
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
  RequestOptions options;
  bool shows_thinking = false;
  const ChatPrompt chat = read_conversation(fields, model, options, shows_thinking);
  fields.finish();
  return {{"input_tokens", chat.encode().size()}};
}

}  // namespace lathe
