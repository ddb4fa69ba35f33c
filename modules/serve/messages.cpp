// Anthropic's /v1/messages and /v1/messages/count_tokens.
#include <nlohmann/json.hpp>

#include "formats/strict_json.h"
#include "serve/chat_messages.h"
#include "serve/endpoints.h"
#include "serve/openai_answer.h"
#include "serve/tool_calls.h"
#include "text/chat_template/encode_chat.h"

namespace lathe {
namespace {

using MessageJson = nlohmann::ordered_json;

struct Conversation {
  std::vector<int32_t> ids;
  ToolFormat tools = ToolFormat::none;
  bool one_call = false;
};

// A call is found in what the model writes; nothing makes it write one.
void read_message_tools(RequestFields& fields, const ServedModel& model, ChatTemplate::Inputs& inputs,
                        Conversation& conversation) {
  fields.read("tools", [&](const OrderedJsonNode& node) {
    if (node.size() > 0) inputs.tools = anthropic_tools(node);
  });
  fields.read("tool_choice", [&](const OrderedJsonNode& node) {
    const std::string& type = node.at("type").string();
    conversation.one_call = node.boolean_or("disable_parallel_tool_use", false);
    if (type == "none") inputs.tools = nullptr;
    if (type != "none" && type != "auto")
      throw ApiError(400, "tool_choice is not supported but for auto and none", "tool_choice");
  });
  if (inputs.tools.is_null()) return;
  conversation.tools = tool_format(model.chat().chat_template(true));
  if (conversation.tools == ToolFormat::none)
    throw ApiError(400, "the model's chat template takes no tools, or in a form that is not known", "tools");
}

// Names what both endpoints know of a conversation.
Conversation read_conversation(RequestFields& fields, const ServedModel& model) {
  Conversation conversation;
  ChatTemplate::Inputs inputs = chat_inputs(model.tokenizer());
  MessageJson system;
  fields.read("system", [&](const OrderedJsonNode& node) { system = node.value(); });
  fields.read("messages", [&](const OrderedJsonNode& node) { inputs.messages = anthropic_messages(system, node); });
  fields.read("chat_template_kwargs", [&](const OrderedJsonNode& node) {
    if (!node.value().is_object()) node.expected("an object");
    inputs.arguments = node.value();
  });
  read_message_tools(fields, model, inputs, conversation);
  fields.only("thinking", {{"type", "disabled"}});
  if (inputs.messages.empty()) throw ApiError(400, "messages is missing", "messages");
  try {
    conversation.ids = model.chat().encode(inputs);
    return conversation;
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
  void show(Exchange& exchange, const ToolCallParser::Found& found);
  void close_text(Exchange& exchange);
  static void send(Exchange& exchange, const MessageJson& event);
  MessageJson message(MessageJson content, MessageJson stop_reason, MessageJson stop_sequence) const;
  MessageJson usage() const;
  const char* stop_reason() const;
  MessageJson stop_sequence() const;

  std::string id_, model_id_;
  int64_t prompt_tokens_ = 0;
  Completion completion_;
  ToolCallParser parser_{ToolFormat::none};
  bool one_call_ = false, text_is_open_ = false;
  int64_t blocks_ = 0, calls_ = 0;
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
  Conversation conversation = read_conversation(fields, model);
  parser_ = ToolCallParser(conversation.tools);
  one_call_ = conversation.one_call;
  std::vector<int32_t> prompt = std::move(conversation.ids);
  fields.calls("prompt", "messages");
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
  if (calls_ > 0) return "tool_use";
  if (!completion_.stop_string.empty()) return "stop_sequence";
  return completion_.finish_reason == FinishReason::length ? "max_tokens" : "end_turn";
}

MessageJson MessageAnswer::stop_sequence() const {
  return completion_.stop_string.empty() ? MessageJson(nullptr) : MessageJson(completion_.stop_string);
}

void MessageAnswer::begin(Exchange& exchange) {
  send(exchange, {{"type", "message_start"}, {"message", message(MessageJson::array(), nullptr, nullptr)}});
}

void MessageAnswer::close_text(Exchange& exchange) {
  if (std::exchange(text_is_open_, false)) send(exchange, {{"type", "content_block_stop"}, {"index", blocks_++}});
}

void MessageAnswer::show(Exchange& exchange, const ToolCallParser::Found& found) {
  const auto start = [&](const MessageJson& block) {
    send(exchange, {{"type", "content_block_start"}, {"index", blocks_}, {"content_block", block}});
  };
  const auto delta = [&](const MessageJson& change) {
    send(exchange, {{"type", "content_block_delta"}, {"index", blocks_}, {"delta", change}});
  };
  if (!found.content.empty()) {
    if (!std::exchange(text_is_open_, true)) start({{"type", "text"}, {"text", ""}});
    delta({{"type", "text_delta"}, {"text", found.content}});
  }
  for (const ToolCall& call : found.calls) {
    if (one_call_ && calls_ > 0) break;
    close_text(exchange);
    start({{"type", "tool_use"}, {"id", new_id("toolu")}, {"name", call.name}, {"input", MessageJson::object()}});
    delta({{"type", "input_json_delta"}, {"partial_json", call.arguments}});
    send(exchange, {{"type", "content_block_stop"}, {"index", blocks_++}});
    ++calls_;
  }
}

void MessageAnswer::take(Exchange& exchange, size_t, const GenerationEvent& event) {
  if (event.completion) completion_ = *event.completion;
  if (!stream) return;
  ToolCallParser::Found found = parser_.push(event.text);
  if (event.completion) found += parser_.finish();
  show(exchange, found);
}

void MessageAnswer::finish(Exchange& exchange) {
  if (!stream) {
    ToolCallParser::Found found = parser_.push(completion_.text.value_or(""));
    found += parser_.finish();
    MessageJson content = MessageJson::array();
    if (!found.content.empty() || found.calls.empty()) content.push_back({{"type", "text"}, {"text", found.content}});
    for (const ToolCall& call : found.calls) {
      if (one_call_ && calls_ > 0) break;
      ++calls_;
      const MessageJson input = parse_ordered_json(call.arguments, "tool call");
      content.push_back({{"type", "tool_use"}, {"id", new_id("toolu")}, {"name", call.name}, {"input", input}});
    }
    return exchange.respond(200, dump_json(message(content, stop_reason(), stop_sequence())));
  }
  close_text(exchange);
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
  const size_t tokens = read_conversation(fields, model).ids.size();
  fields.finish();
  return {{"input_tokens", tokens}};
}

}  // namespace lathe
