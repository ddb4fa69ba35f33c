// OpenAI's /v1/responses and /v1/responses/input_tokens: a translation onto chat, without state.
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "serve/chat_fields.h"
#include "serve/endpoints.h"
#include "serve/openai_answer.h"
#include "serve/response_format.h"
#include "serve/response_items.h"
#include "serve/turn.h"

namespace lathe {
namespace {

using ResponseJson = nlohmann::ordered_json;

// What is asked of it here cannot be had of a server that keeps nothing.
void refuse_state(RequestFields& fields) {
  const auto refuse = [&](const char* name, const ResponseJson& harmless) {
    fields.read(name, [&](const OrderedJsonNode& node) {
      if (node.value() != harmless)
        throw ApiError(400, fmt::format("{}: the server is stateless: send the whole conversation as input", name),
                       name, "unsupported_parameter");
    });
  };
  refuse("store", false);
  refuse("background", false);
  for (const char* name : {"previous_response_id", "conversation", "prompt"}) refuse(name, nullptr);
}

void read_text(RequestFields& fields, RequestOptions& options) {
  fields.read("text", [&](const OrderedJsonNode& node) {
    RequestFields of(node);
    read_response_format(of, "format", options);
    fields.calls("json_schema", "text");
    of.only("verbosity", "medium");
    of.finish();
  });
}

void read_reasoning(RequestFields& fields, ChatPrompt& chat) {
  fields.read("reasoning", [&](const OrderedJsonNode& node) {
    RequestFields of(node);
    read_effort(of, "effort", chat);
    of.ignore({"summary", "generate_summary"});  // the thinking itself is shown
    of.finish();
  });
}

// What both endpoints know of a conversation.
ChatPrompt read_response_prompt(RequestFields& fields, const ServedModel& model, const OrderedJsonNode& body,
                                RequestOptions& options, std::vector<std::string>& warnings) {
  ChatPrompt chat(model, "input");
  ResponseJson instructions;
  fields.read("instructions", [&](const OrderedJsonNode& node) { instructions = node.string(); });
  fields.read("input", [&](const OrderedJsonNode& node) { chat.take_messages(response_messages(instructions, node)); });
  chat.read_arguments(fields);
  read_response_tools(fields, chat, warnings);
  refuse_state(fields);
  read_text(fields, options);
  read_reasoning(fields, chat);
  fields.only("truncation", "disabled");
  if (!body.has("input")) throw ApiError(400, "input is missing", "input");
  return chat;
}

class ResponseAnswer final : public Answer {
 public:
  ResponseAnswer(const ServedModel& model, const OrderedJsonNode& body);
  void begin(Exchange& exchange) override;
  void take(Exchange& exchange, size_t request, const GenerationEvent& event) override;
  void finish(Exchange& exchange) override;
  void fail(Exchange& exchange, const ApiError& error) override;

 private:
  struct Item {
    ResponseJson json;
    const char* text_event;  // "output_text" or "reasoning_text"; null: a call
  };
  void ignore_harmless(RequestFields& fields);
  void echo(const OrderedJsonNode& body, const Request& request);
  void send(Exchange& exchange, const std::string& type, ResponseJson event);
  void send_part(Exchange& exchange, const char* what, const Item& item);
  void add_text(Exchange& exchange, const char* event, const std::string& text);
  void add_call(Exchange& exchange, const ToolCall& call);
  void open(Exchange& exchange, ResponseJson item, const char* text_event);
  void close(Exchange& exchange, const char* status);
  ResponseJson response(const char* status) const;
  ResponseJson usage() const;

  const ServedModel& model_;
  ResponseJson frame_;  // of the response: what no event changes
  std::optional<Turn> turn_;
  std::vector<Item> items_;
  bool open_ = false;  // the last item
  std::optional<Completion> completion_;
  int64_t sequence_number_ = 0;
};

ResponseAnswer::ResponseAnswer(const ServedModel& model, const OrderedJsonNode& body) : model_(model) {
  RequestFields fields(body);
  RequestOptions options;
  std::vector<std::string> warnings;
  stream = fields.flag("stream", false);
  fields.sampling(options);
  const ChatPrompt chat = read_response_prompt(fields, model, body, options, warnings);
  options.max_new_tokens = 0;
  fields.option(options, "max_output_tokens", "max_new_tokens");
  ignore_harmless(fields);
  fields.calls("prompt", "input");
  fields.finish();
  std::vector<int32_t> prompt = chat.encode();
  turn_.emplace(model, chat, prompt, "call");
  const int64_t room = model.engine.longest_sequence() - std::ssize(prompt);
  if (options.max_new_tokens == 0) options.max_new_tokens = std::max<int64_t>(1, room);
  requests.push_back(
      make_request(model, fields, options, std::move(prompt), [&](Request& request) { chat.constrain(request); }));
  echo(body, requests[0]);
  if (!warnings.empty()) frame_["warnings"] = warnings;
}

void ResponseAnswer::ignore_harmless(RequestFields& fields) {
  fields.only("top_logprobs", 0);
  fields.read("include", [&](const OrderedJsonNode& node) {
    for (size_t i = 0; i < node.size(); ++i)
      if (node.at(i).string() == "message.output_text.logprobs")
        throw ApiError(400, "include: log-probabilities are those of /v1/chat/completions", "include",
                       "unsupported_parameter");
  });
  fields.ignore({"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_options",
                 "prompt_cache_retention", "service_tier", "stream_options", "max_tool_calls"});
}

void ResponseAnswer::echo(const OrderedJsonNode& body, const Request& request) {
  const auto given = [&](const char* name, ResponseJson otherwise) {
    if (body.has(name)) otherwise = body.value()[name];
    return otherwise;
  };
  frame_ = {{"id", new_id("resp")},
            {"object", "response"},
            {"created_at", unix_seconds()},
            {"background", false},
            {"instructions", given("instructions", nullptr)},
            {"max_output_tokens", given("max_output_tokens", nullptr)},
            {"metadata", given("metadata", ResponseJson::object())},
            {"model", model_.id},
            {"parallel_tool_calls", given("parallel_tool_calls", true)},
            {"previous_response_id", nullptr},
            {"reasoning", given("reasoning", {{"effort", nullptr}, {"summary", nullptr}})},
            {"store", false},
            {"temperature", request.sampling.temperature},
            {"text", given("text", {{"format", {{"type", "text"}}}})},
            {"tool_choice", given("tool_choice", "auto")},
            {"tools", given("tools", ResponseJson::array())},
            {"top_p", request.sampling.top_p},
            {"truncation", "disabled"}};
}

ResponseJson ResponseAnswer::usage() const {
  if (!completion_) return nullptr;
  const int64_t in = completion_->prompt_tokens, out = std::ssize(completion_->tokens);
  return {{"input_tokens", in},
          {"input_tokens_details", {{"cached_tokens", completion_->cached_tokens}, {"cache_write_tokens", 0}}},
          {"output_tokens", out},
          {"output_tokens_details", {{"reasoning_tokens", turn_->reasoning_tokens()}}},
          {"total_tokens", in + out}};
}

ResponseJson ResponseAnswer::response(const char* status) const {
  ResponseJson json = frame_;
  json["status"] = status;
  json["error"] = nullptr;
  json["incomplete_details"] = nullptr;
  if (status == std::string_view("incomplete")) json["incomplete_details"] = {{"reason", "max_output_tokens"}};
  json["output"] = ResponseJson::array();
  for (const Item& item : items_) json["output"].push_back(item.json);
  json["usage"] = usage();
  return json;
}

void ResponseAnswer::send(Exchange& exchange, const std::string& type, ResponseJson event) {
  if (!stream) return;
  ResponseJson json = {{"type", type}, {"sequence_number", sequence_number_++}};
  json.update(event);
  exchange.write("event: " + type + "\ndata: " + dump_json(json) + "\n\n");
}

void ResponseAnswer::begin(Exchange& exchange) {
  send(exchange, "response.created", {{"response", response("in_progress")}});
  send(exchange, "response.in_progress", {{"response", response("in_progress")}});
}

// Where in the response an event happens.
ResponseJson place(const ResponseJson& item, size_t index, ResponseJson more) {
  ResponseJson event = {{"item_id", item["id"]}, {"output_index", index}};
  event.update(more);
  return event;
}

void ResponseAnswer::send_part(Exchange& exchange, const char* what, const Item& item) {
  send(exchange, what, place(item.json, items_.size() - 1, {{"content_index", 0}, {"part", item.json["content"][0]}}));
}

// `item` as it is when it is done; events before show it without its content.
void ResponseAnswer::open(Exchange& exchange, ResponseJson item, const char* text_event) {
  items_.push_back({std::move(item), text_event});
  open_ = true;
  ResponseJson shown = items_.back().json;
  if (text_event) shown["content"] = ResponseJson::array();
  send(exchange, "response.output_item.added", {{"output_index", items_.size() - 1}, {"item", shown}});
  if (text_event) send_part(exchange, "response.content_part.added", items_.back());
}

void ResponseAnswer::close(Exchange& exchange, const char* status) {
  if (!std::exchange(open_, false)) return;
  Item& item = items_.back();
  item.json["status"] = status;
  if (item.text_event) {
    const ResponseJson& part = item.json["content"][0];
    ResponseJson done = {{"content_index", 0}, {"text", part["text"]}};
    if (part.contains("logprobs")) done["logprobs"] = ResponseJson::array();
    send(exchange, fmt::format("response.{}.done", item.text_event), place(item.json, items_.size() - 1, done));
    send_part(exchange, "response.content_part.done", item);
  }
  send(exchange, "response.output_item.done", {{"output_index", items_.size() - 1}, {"item", item.json}});
}

void ResponseAnswer::add_text(Exchange& exchange, const char* event, const std::string& text) {
  const bool thinking = event == std::string_view("reasoning_text");
  if (!open_ || items_.back().text_event != std::string_view(event)) {
    close(exchange, "completed");
    ResponseJson part = {{"type", event}, {"text", ""}};
    ResponseJson item = {{"id", new_id(thinking ? "rs" : "msg")}, {"type", thinking ? "reasoning" : "message"}};
    if (thinking) {
      item["summary"] = ResponseJson::array();
    } else {
      item["role"] = "assistant";
      part["annotations"] = part["logprobs"] = ResponseJson::array();
    }
    item["status"] = "in_progress";
    item["content"] = ResponseJson::array({part});
    open(exchange, std::move(item), event);
  }
  if (text.empty()) return;
  ResponseJson& part = items_.back().json["content"][0];
  part["text"] = part["text"].get_ref<const std::string&>() + text;
  ResponseJson delta = {{"content_index", 0}, {"delta", text}};
  if (!thinking) delta["logprobs"] = ResponseJson::array();
  send(exchange, fmt::format("response.{}.delta", event), place(items_.back().json, items_.size() - 1, delta));
}

void ResponseAnswer::add_call(Exchange& exchange, const ToolCall& call) {
  close(exchange, "completed");
  open(exchange,
       {{"id", new_id("fc")},
        {"type", "function_call"},
        {"status", "in_progress"},
        {"call_id", call.id},
        {"name", call.name},
        {"arguments", ""}},
       nullptr);
  ResponseJson& item = items_.back().json;
  item["arguments"] = call.arguments;
  const size_t index = items_.size() - 1;
  send(exchange, "response.function_call_arguments.delta", place(item, index, {{"delta", call.arguments}}));
  send(exchange, "response.function_call_arguments.done",
       place(item, index, {{"name", call.name}, {"arguments", call.arguments}}));
  close(exchange, "completed");
}

void ResponseAnswer::take(Exchange& exchange, size_t, const GenerationEvent& event) {
  const Turn::Parts parts = turn_->take(event);
  if (!parts.reasoning.empty()) add_text(exchange, "reasoning_text", parts.reasoning);
  if (!parts.content.empty()) add_text(exchange, "output_text", parts.content);
  for (const ToolCall& call : parts.calls) add_call(exchange, call);
  if (event.completion) completion_ = event.completion;
}

void ResponseAnswer::finish(Exchange& exchange) {
  const char* status = completion_->finish_reason == FinishReason::length ? "incomplete" : "completed";
  if (items_.empty()) add_text(exchange, "output_text", "");
  close(exchange, status);
  if (!stream) return exchange.respond(200, dump_json(response(status)));
  send(exchange, std::string("response.") + status, {{"response", response(status)}});
  exchange.end();
}

void ResponseAnswer::fail(Exchange& exchange, const ApiError& error) {
  ResponseJson json = response("failed");
  json["error"] = {{"code", "server_error"}, {"message", error.what()}};
  send(exchange, "response.failed", {{"response", json}});
  exchange.end();
}

}  // namespace

std::unique_ptr<Answer> make_response(const ServedModel& model, const OrderedJsonNode& body) {
  return std::make_unique<ResponseAnswer>(model, body);
}

nlohmann::ordered_json count_response_tokens(const ServedModel& model, const OrderedJsonNode& body) {
  RequestFields fields(body);
  RequestOptions options;
  std::vector<std::string> warnings;
  const ChatPrompt chat = read_response_prompt(fields, model, body, options, warnings);
  fields.finish();
  return {{"object", "response.input_tokens"}, {"input_tokens", chat.encode().size()}};
}

}  // namespace lathe
