// Answers written from events that no model had to make: streams and whole answers say the same, tool calls among them.
#include <nlohmann/json.hpp>

#include "formats/strict_json.h"
#include "serve/endpoints.h"
#include "tests/catch.h"
#include "tests/serve/tiny_chat.h"

using namespace lathe;

namespace {

using AnswerJson = nlohmann::ordered_json;

// A tiny model whose template takes tools as Hermes does.
struct ToolServer {
  test::TinyChat folder;
  std::unique_ptr<test::ReadyEngine> engine;
  std::unique_ptr<ServedModel> model;

  ToolServer() {
    const std::string source =
        "{# <tool_call> #}{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments.x }}{% endfor "
        "%}"
        "{% endfor %}";
    folder.write("tokenizer_config.json", AnswerJson{{"chat_template", source}}.dump());
    engine = std::make_unique<test::ReadyEngine>([this] { return folder.load(); }, 8);
    model = std::make_unique<ServedModel>(ServedModel{"tiny", engine->thread, 0});
  }

  // The body of an answer to `body` whose text comes in these pieces.
  template <class Make>
  std::string answered(Make make, const AnswerJson& body, const std::vector<std::string>& pieces) const {
    const std::unique_ptr<Answer> answer = make(*model, {body, "body"});
    Exchange exchange;
    if (answer->stream) {
      exchange.begin_stream();
      answer->begin(exchange);
    }
    Completion completion;
    completion.text = "";
    for (size_t i = 0; i < pieces.size(); ++i) {
      GenerationEvent event;
      event.token = 1;
      event.text = pieces[i];
      *completion.text += pieces[i];
      completion.tokens.push_back(1);
      completion.prompt_tokens = std::ssize(answer->requests[0].prompt);
      if (i + 1 == pieces.size()) event.completion = completion;
      answer->take(exchange, 0, event);
    }
    answer->finish(exchange);
    CHECK(exchange.over());
    CHECK(exchange.status() == 200);
    return exchange.output();
  }
};

std::vector<AnswerJson> events_of(const std::string& stream) {
  std::vector<AnswerJson> events;
  for (size_t at = 0; (at = stream.find("data: ", at)) != stream.npos; at += 6) {
    const std::string data = stream.substr(at + 6, stream.find("\n\n", at) - at - 6);
    if (data != "[DONE]") events.push_back(parse_ordered_json(data, "event"));
  }
  return events;
}

const std::vector<std::string> kPieces = {
    "Let me", " see. <to", "ol_call>{\"name\": \"f\", \"argu",
    "ments\": {\"x\": 1}}</tool_call><tool_call>{\"name\": \"g\", \"arguments\": {}}"};

}  // namespace

TEST_CASE("tool calls of a chat have index, id, type and name from their first delta on") {
  const ToolServer server;
  AnswerJson body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}},
                     {"tools", {{{"type", "function"}, {"function", {{"name", "f"}}}}}},
                     {"stream", true}};
  std::string content, finish_reason;
  AnswerJson calls = AnswerJson::array();
  for (const AnswerJson& event : events_of(server.answered(make_chat_completion, body, kPieces))) {
    const AnswerJson& choice = event["choices"][0];
    content += choice["delta"].value("content", "");
    for (const AnswerJson& call : choice["delta"].value("tool_calls", AnswerJson::array())) calls.push_back(call);
    if (choice["finish_reason"].is_string()) finish_reason = choice["finish_reason"];
  }
  CHECK(content == "Let me see.");
  CHECK(finish_reason == "tool_calls");
  REQUIRE(calls.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    CHECK(calls[i]["index"] == i);
    CHECK(calls[i]["type"] == "function");
    CHECK(calls[i]["id"].get<std::string>().starts_with("call-"));
    CHECK(calls[i]["function"]["name"] == std::string(1, static_cast<char>('f' + i)));
  }
  CHECK(calls[0]["function"]["arguments"] == "{\"x\":1}");
  CHECK(calls[0]["id"] != calls[1]["id"]);

  body["stream"] = false;
  const AnswerJson whole = parse_ordered_json(server.answered(make_chat_completion, body, kPieces), "answer");
  const AnswerJson& message = whole["choices"][0]["message"];
  CHECK(message["content"] == content);
  CHECK(message["tool_calls"].size() == 2);
  CHECK(message["tool_calls"][1]["function"]["name"] == "g");
  CHECK(whole["choices"][0]["finish_reason"] == "tool_calls");
  CHECK(whole["usage"]["total_tokens"] == 3 + 4);  // "f", "h", "i"
  body["parallel_tool_calls"] = false;
  const AnswerJson one = parse_ordered_json(server.answered(make_chat_completion, body, kPieces), "answer");
  CHECK(one["choices"][0]["message"]["tool_calls"].size() == 1);
  body["tool_choice"] = "none";
  const AnswerJson none = parse_ordered_json(server.answered(make_chat_completion, body, {"<tool_call>"}), "answer");
  CHECK(none["choices"][0]["message"]["content"] == "<tool_call>");
  body["tool_choice"] = "required";
  CHECK_THROWS_AS(make_chat_completion(*server.model, {body, "body"}), ApiError);
}

TEST_CASE("tool calls of a message are blocks, and a turn with them is read back") {
  const ToolServer server;
  AnswerJson body = {{"max_tokens", 5},
                     {"messages", {{{"role", "user"}, {"content", "hi"}}}},
                     {"tools", {{{"name", "f"}, {"input_schema", {{"type", "object"}}}}}},
                     {"stream", true}};
  std::vector<std::string> kinds;
  std::string text, input;
  for (const AnswerJson& event : events_of(server.answered(make_message, body, kPieces))) {
    kinds.push_back(event["type"]);
    if (kinds.back() == "content_block_start") kinds.back() = event["content_block"]["type"];
    if (kinds.back() == "content_block_delta") text += event["delta"].value("text", "");
    if (kinds.back() == "content_block_delta") input += event["delta"].value("partial_json", "");
    if (kinds.back() == "message_delta") CHECK(event["delta"]["stop_reason"] == "tool_use");
  }
  CHECK(kinds == std::vector<std::string>{"message_start", "text", "content_block_delta", "content_block_delta",
                                          "content_block_stop", "tool_use", "content_block_delta", "content_block_stop",
                                          "tool_use", "content_block_delta", "content_block_stop", "message_delta",
                                          "message_stop"});
  CHECK(text == "Let me see.");
  CHECK(input == "{\"x\":1}{}");
  body["stream"] = false;
  const AnswerJson whole = parse_ordered_json(server.answered(make_message, body, kPieces), "answer");
  CHECK(whole["stop_reason"] == "tool_use");
  CHECK(whole["content"][1]["input"]["x"] == 1);

  body["messages"].push_back({{"role", "assistant"}, {"content", whole["content"]}});
  body["messages"][1]["content"][0]["text"] = "see";  // letters alone: the vocabulary has no others
  body["messages"].push_back(
      {{"role", "user"},
       {"content",
        {{{"type", "tool_result"}, {"tool_use_id", "x"}, {"content", {{{"type", "text"}, {"text", "ok"}}}}}}}});
  const std::vector<int32_t> prompt = make_message(*server.model, {body, "body"})->requests[0].prompt;
  CHECK(server.model->tokenizer().decode(prompt) == "fhisee1ok");
}
