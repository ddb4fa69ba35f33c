// Answers written from events that no model had to make: streams and whole answers say the same, tool calls among them.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "formats/strict_json.h"
#include "serve/endpoints.h"
#include "tests/catch.h"
#include "tests/serve/tiny_chat.h"

using namespace lathe;

namespace {

using AnswerJson = nlohmann::ordered_json;

// Hermes' form, thinking as Qwen 3 has it; what a turn is ended with is E.
const std::string kTemplate = R"({% if tools %}{% for t in tools %}{{ t.function.name }}{% endfor %}{% endif %}
{%- for m in messages %}{{ m.role[0] }}
{%- if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content or "" }}
{%- for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}E{% endfor %}
{%- if add_generation_prompt %}a{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}
{%- endif %})";

// Ids in this order: the model's end token is the third.
const std::vector<std::string> kVocabulary = {
    "0", "1", "E", "a", "b", "c", "d", "e", "f", "g", "h",  "i", "j", "k", "l", "m", "n", "o", "p",  "q", "r", "s",
    "t", "u", "v", "w", "x", "y", "z", " ", "{", "}", "\"", ":", ",", ".", "<", ">", "_", "/", "\n", "B", "L"};
const std::vector<std::string> kAddedTokens = {"<tool_call>", "</tool_call>",  "<think>",
                                               "</think>",    "{\"name\": \"", "\", \"arguments\": "};

// A tiny model that thinks and takes tools.
struct ToolServer {
  test::TinyChat folder;
  std::unique_ptr<test::ReadyEngine> engine;
  std::unique_ptr<ServedModel> model;

  explicit ToolServer(const std::string& source = kTemplate) {
    AnswerJson vocabulary = AnswerJson::object(), added = AnswerJson::array();
    for (const std::string& token : kVocabulary) vocabulary[token] = vocabulary.size();
    for (const std::string& token : kAddedTokens)
      added.push_back({{"id", vocabulary.size() + added.size()},
                       {"content", token},
                       {"special", false},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false}});
    folder.write("tokenizer.json",
                 AnswerJson{{"added_tokens", added},
                            {"normalizer", nullptr},
                            {"pre_tokenizer", nullptr},
                            {"post_processor", nullptr},
                            {"decoder", {{"type", "Fuse"}}},
                            {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", AnswerJson::array()}}}}
                     .dump());
    folder.write("tokenizer_config.json", AnswerJson{{"chat_template", source}}.dump());
    engine = std::make_unique<test::ReadyEngine>([this] { return folder.load(); }, 8);
    model = std::make_unique<ServedModel>(ServedModel{"tiny", engine->thread, 0});
  }

  // The body of an answer to `body` whose text comes in these pieces.
  template <class Make>
  std::string answered(Make make, const AnswerJson& body, const std::vector<std::string>& pieces,
                       std::vector<int32_t> tokens = {}) const {
    const std::unique_ptr<Answer> answer = make(*model, {body, "body"});
    Exchange exchange;
    if (answer->stream) {
      exchange.begin_stream();
      answer->begin(exchange);
    }
    const std::vector<Request> requests = std::move(answer->requests);  // as the engine does
    Completion completion;
    completion.text = "";
    for (size_t i = 0; i < pieces.size(); ++i) {
      GenerationEvent event;
      event.token = 1;
      event.text = pieces[i];
      *completion.text += pieces[i];
      completion.tokens.push_back(1);
      completion.prompt_tokens = std::ssize(requests[0].prompt);
      if (i + 1 == pieces.size() && !tokens.empty()) completion.tokens = tokens;
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
  CHECK(whole["usage"]["total_tokens"] == 6 + 4);  // "fuhiEa"
  body["parallel_tool_calls"] = false;
  const AnswerJson one = parse_ordered_json(server.answered(make_chat_completion, body, kPieces), "answer");
  CHECK(one["choices"][0]["message"]["tool_calls"].size() == 1);
  body["tool_choice"] = "none";
  const AnswerJson none = parse_ordered_json(server.answered(make_chat_completion, body, {"<tool_call>"}), "answer");
  CHECK(none["choices"][0]["message"]["content"] == "<tool_call>");
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "g"}}}};
  CHECK_THROWS_AS(make_chat_completion(*server.model, {body, "body"}), ApiError);  // there is no such tool
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
  body["messages"][1]["content"] = AnswerJson::array({whole["content"][1]});
  body["messages"].push_back(
      {{"role", "user"},
       {"content",
        {{{"type", "tool_result"}, {"tool_use_id", "x"}, {"content", {{{"type", "text"}, {"text", "ok"}}}}}}}});
  const std::vector<int32_t> prompt = make_message(*server.model, {body, "body"})->requests[0].prompt;
  CHECK(server.model->tokenizer().decode(prompt) ==
        "fuhiEa<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>EtokEa");
}

namespace {

const std::vector<std::string> kThoughts = {"<th", "ink>\nso", " \n it", " is\n</thi", "nk>\n\nyes", "."};

AnswerJson json_of(const std::string& text) { return parse_ordered_json(text, "answer"); }

AnswerJson chat_body() { return {{"messages", {{{"role", "user"}, {"content", "hi"}}}}}; }

}  // namespace

TEST_CASE("a chat's thinking comes apart from its text, and is taken back") {
  const ToolServer server;
  AnswerJson body = chat_body();
  const AnswerJson whole = json_of(server.answered(make_chat_completion, body, kThoughts));
  const AnswerJson& message = whole["choices"][0]["message"];
  CHECK(message["reasoning_content"] == "so \n it is");
  CHECK(message["content"] == "yes.");
  CHECK(whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4);  // with the one that ends it
  body["stream"] = true;
  std::string reasoning, content;
  for (const AnswerJson& event : events_of(server.answered(make_chat_completion, body, kThoughts))) {
    reasoning += event["choices"][0]["delta"].value("reasoning_content", "");
    content += event["choices"][0]["delta"].value("content", "");
  }
  CHECK(reasoning == message["reasoning_content"]);
  CHECK(content == message["content"]);

  const auto prompt = [&] {
    return server.model->tokenizer().decode(make_chat_completion(*server.model, {body, "body"})->requests[0].prompt);
  };
  for (const char* name : {"reasoning_content", "reasoning"}) {
    body["messages"] = AnswerJson::array({{{"role", "assistant"}, {"content", "b"}, {name, "c"}}});
    CHECK(prompt() == "a<think>c</think>bEa");
  }
  body["reasoning_effort"] = "none";
  CHECK(prompt() == "a<think>c</think>bEa<think></think>");
  body["reasoning_effort"] = "low";
  CHECK(prompt() == "a<think>c</think>bEa");
  body["chat_template_kwargs"] = {{"enable_thinking", false}};  // what the user gave the template comes first
  CHECK(prompt() == "a<think>c</think>bEa<think></think>");
  body["reasoning_effort"] = "lots";
  CHECK_THROWS_AS(prompt(), ApiError);
}

TEST_CASE("a message's thinking is blocks where it was asked for") {
  const ToolServer server;
  AnswerJson body = chat_body();
  body["max_tokens"] = 9;
  const AnswerJson plain = json_of(server.answered(make_message, body, kThoughts));
  REQUIRE(plain["content"].size() == 1);
  CHECK(plain["content"][0]["text"] == "yes.");
  body["thinking"] = {{"type", "enabled"}, {"budget_tokens", 1024}};
  const AnswerJson whole = json_of(server.answered(make_message, body, kThoughts));
  CHECK(whole["content"][0].dump() == R"({"type":"thinking","thinking":"so \n it is","signature":""})");
  CHECK(whole["content"][1]["text"] == "yes.");
  body["stream"] = true;
  std::vector<std::string> kinds;
  std::string thinking;
  for (const AnswerJson& event : events_of(server.answered(make_message, body, kThoughts))) {
    std::string kind = event["type"];
    if (kind == "content_block_start") kind = event["content_block"]["type"];
    if (kind == "content_block_delta") {
      thinking += event["delta"].value("thinking", "");
      kind = event["delta"]["type"];
    }
    if (kinds.empty() || kinds.back() != kind) kinds.push_back(kind);
  }
  CHECK(thinking == "so \n it is");
  CHECK(kinds == std::vector<std::string>{"message_start", "thinking", "thinking_delta", "signature_delta",
                                          "content_block_stop", "text", "text_delta", "content_block_stop",
                                          "message_delta", "message_stop"});
  body["messages"].push_back({{"role", "assistant"}, {"content", whole["content"]}});
  body["messages"][1]["content"][0]["thinking"] = "so";
  body["thinking"] = {{"type", "disabled"}};
  CHECK(server.model->tokenizer().decode(make_message(*server.model, {body, "body"})->requests[0].prompt) ==
        "uhiEa<think>so</think>yes.Ea<think></think>");
}

TEST_CASE("what a template cannot do of thinking is refused") {
  const ToolServer server("{% for m in messages %}{{ m.content }}{% endfor %}");
  AnswerJson body = chat_body();
  body["reasoning_effort"] = "none";
  CHECK_NOTHROW(make_chat_completion(*server.model, {body, "body"}));
  body["reasoning_effort"] = "low";
  CHECK_THROWS_WITH(make_chat_completion(*server.model, {body, "body"}),
                    Catch::Matchers::ContainsSubstring("knows no thinking"));
  const ToolServer thinks("{% for m in messages %}{{ m.content }}{% endfor %}<think>{# </think> #}");
  body["reasoning_effort"] = "none";
  CHECK_THROWS_WITH(make_chat_completion(*thinks.model, {body, "body"}),
                    Catch::Matchers::ContainsSubstring("cannot turn its thinking off"));
  // The prompt has begun the thinking.
  body.erase("reasoning_effort");
  const AnswerJson whole = json_of(thinks.answered(make_chat_completion, body, {"a</th", "ink>b"}));
  CHECK(whole["choices"][0]["message"]["reasoning_content"] == "a");
  CHECK(whole["choices"][0]["message"]["content"] == "b");
}

TEST_CASE("special tokens that the reader of an answer looks for stay in its text, and no others") {
  const ToolServer server;
  AnswerJson body = chat_body();
  const auto keeps = [&](const std::string& mark) {
    const Request request = make_chat_completion(*server.model, {body, "body"})->requests[0];
    CHECK(request.skip_special_tokens);
    return std::find(request.kept_marks.begin(), request.kept_marks.end(), mark) != request.kept_marks.end();
  };
  CHECK((keeps("</think>") && !keeps("<tool_call>")));
  body["tools"] = AnswerJson::array({{{"type", "function"}, {"function", {{"name", "f"}}}}});
  CHECK((keeps("</think>") && keeps("<tool_call>")));
}

TEST_CASE("a turn that called tools stands in the next prompt as the model wrote it") {
  const ToolServer server;
  AnswerJson body = chat_body();
  body["tools"] = AnswerJson::array({{{"type", "function"}, {"function", {{"name", "f"}}}}});
  // Tokens that the template would not write: the name letter by letter, spaces where it has none.
  const std::string own = "x<tool_call>  {\"name\": \"f\", \"arguments\": {}}</tool_call>E";
  const std::vector<int32_t> tokens = server.model->tokenizer().encode(own);
  const std::vector<int32_t> first = make_chat_completion(*server.model, {body, "body"})->requests[0].prompt;
  const AnswerJson whole =
      json_of(server.answered(make_chat_completion, body, {own.substr(0, own.size() - 1)}, tokens));
  const AnswerJson message = whole["choices"][0]["message"];
  REQUIRE(message["tool_calls"].size() == 1);
  body["messages"].push_back(message);
  body["messages"].push_back({{"role", "tool"}, {"tool_call_id", message["tool_calls"][0]["id"]}, {"content", "ok"}});
  const auto prompt = [&] { return make_chat_completion(*server.model, {body, "body"})->requests[0].prompt; };
  std::vector<int32_t> expected = first;
  expected.insert(expected.end(), tokens.begin(), tokens.end());
  const std::vector<int32_t> answered = server.model->tokenizer().encode("tokEa");
  expected.insert(expected.end(), answered.begin(), answered.end());
  CHECK(prompt() == expected);
  // A turn that the client has changed is the client's, and so is one whose id is not known.
  AnswerJson given = body;
  body["messages"][1]["content"] = "y";
  CHECK(server.model->tokenizer().decode(prompt()) ==
        "fuhiEay<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>EtokEa");
  body = given;
  body["messages"][1]["tool_calls"][0]["function"]["arguments"] = "{\"x\": 1}";
  CHECK(prompt() != expected);
  body = given;
  body["messages"][0]["content"] = "ho";
  CHECK(prompt() != expected);
  body = given;
  body["messages"][1]["tool_calls"][0]["id"] = "call_x";
  CHECK(prompt() != expected);
}

TEST_CASE("a tool that must be called is, by a model of random weights, and its turn is taken back") {
  const ToolServer server;
  AnswerJson body = chat_body();
  const AnswerJson parameters = {{"type", "object"}, {"properties", {{"x", {{"enum", {1, 10}}}}}}, {"required", {"x"}}};
  for (const char* name : {"f", "g"}) {
    const AnswerJson function = {{"name", name}, {"parameters", parameters}};
    body["tools"].push_back({{"type", "function"}, {"function", function}});
  }
  body["reasoning_effort"] = "none";  // thoughts of such a model do not end
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "g"}}}};
  const auto ask = [&] {
    test::Told told;
    const std::unique_ptr<Answer> answer = make_chat_completion(*server.model, {body, "body"});
    CHECK(answer->requests[0].grammar != nullptr);
    server.engine->thread.submit(answer->requests, told.listener());
    told.wait();
    REQUIRE(told.completions.size() == 1);
    const Completion& c = told.completions[0].second;
    CHECK(c.finish_reason == FinishReason::stop);
    return json_of(server.answered(make_chat_completion, body, {*c.text}, c.tokens));
  };
  const AnswerJson called = ask()["choices"][0]["message"]["tool_calls"];
  REQUIRE(called.size() == 1);
  CHECK(called[0]["function"]["name"] == "g");
  const AnswerJson given = json_of(called[0]["function"]["arguments"]);
  CHECK((given == AnswerJson{{"x", 1}} || given == AnswerJson{{"x", 10}}));
  body["tool_choice"] = "required";
  body["parallel_tool_calls"] = false;
  CHECK(ask()["choices"][0]["message"]["tool_calls"].size() == 1);

  const std::vector<int32_t> before = make_chat_completion(*server.model, {body, "body"})->requests[0].prompt;
  const AnswerJson message = ask()["choices"][0]["message"];
  body["messages"].push_back(message);
  const std::vector<int32_t> after = make_chat_completion(*server.model, {body, "body"})->requests[0].prompt;
  REQUIRE(after.size() > before.size());
  CHECK(std::equal(before.begin(), before.end(), after.begin()));  // its thinking that was turned off, too
  CHECK(server.model->tokenizer().decode(after).ends_with("Ea<think></think>"));  // the turn has its end
}

TEST_CASE("what a tool answered has the tool's name, which some templates want") {
  const ToolServer server("{% for m in messages %}{{ m.name or '' }}{% endfor %}a{# tools #}");
  AnswerJson body = chat_body();
  const AnswerJson call = {{"id", "x"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", "{}"}}}};
  body["messages"].push_back({{"role", "assistant"}, {"content", nullptr}, {"tool_calls", AnswerJson::array({call})}});
  body["messages"].push_back({{"role", "tool"}, {"tool_call_id", "x"}, {"content", "b"}});
  body["messages"].push_back({{"role", "tool"}, {"tool_call_id", "y"}, {"content", "b"}});
  body["messages"].push_back({{"role", "tool"}, {"tool_call_id", "x"}, {"name", "g"}, {"content", "b"}});
  CHECK(server.model->tokenizer().decode(make_chat_completion(*server.model, {body, "body"})->requests[0].prompt) ==
        "fga");
}

TEST_CASE("turns are forgotten, the oldest first") {
  CallMemory memory;
  const std::vector<int32_t> prompt = {1}, large(size_t{1} << 19, 7);
  for (const char* id : {"a", "b", "c"}) memory.keep(prompt, {"", {{"f", "{}", id}}, false, large});
  const auto known = [&](const char* id) {
    const AnswerJson function = {{"name", "f"}, {"arguments", AnswerJson::object()}};
    const AnswerJson call = {{"id", id}, {"function", function}};
    const AnswerJson message = {{"role", "assistant"}, {"tool_calls", AnswerJson::array({call})}};
    return memory.with_own_tokens({1, 5, 2, 6}, AnswerJson::array({message}), {2}).size() > 4;
  };
  CHECK_FALSE(known("a"));
  CHECK(known("b"));
  CHECK(known("c"));
}

TEST_CASE("a response's items are those of its stream") {
  const ToolServer server;
  AnswerJson body = {{"input", "hi"}, {"instructions", "be"}};
  body["tools"] =
      AnswerJson::array({{{"type", "function"}, {"name", "f"}, {"strict", true}}, {{"type", "web_search"}}});
  std::vector<std::string> pieces = kThoughts;
  pieces.insert(pieces.end(), {"<tool_call>{\"name\": \"f\", \"argu", "ments\": {\"x\": 1}}</tool_call>"});
  const AnswerJson whole = json_of(server.answered(make_response, body, pieces));
  CHECK(whole["status"] == "completed");
  CHECK(whole["warnings"].size() == 1);
  REQUIRE(whole["output"].size() == 3);
  CHECK(whole["output"][0]["content"][0]["text"] == "so \n it is");
  CHECK(whole["output"][1]["content"][0]["text"] == "yes.");
  CHECK(whole["output"][2]["arguments"] == "{\"x\":1}");
  CHECK(whole["usage"]["output_tokens_details"]["reasoning_tokens"] == 4);
  CHECK(whole["usage"]["input_tokens"] == count_response_tokens(*server.model, {body, "body"})["input_tokens"]);

  body["stream"] = true;
  std::vector<std::string> kinds;
  AnswerJson items = AnswerJson::array(), last;
  std::map<std::string, std::string> texts;
  int64_t number = 0;
  for (const AnswerJson& event : events_of(server.answered(make_response, body, pieces))) {
    CHECK(event["sequence_number"] == number++);
    const std::string type = event["type"].get<std::string>().substr(std::string("response.").size());
    if (kinds.empty() || kinds.back() != type) kinds.push_back(type);
    if (type == "output_item.done") items.push_back(event["item"]);
    if (event.contains("delta")) texts[event["item_id"]] += event["delta"];
    if (event.contains("text")) CHECK(texts[event["item_id"]] == event["text"]);
    if (event.contains("arguments")) CHECK(texts[event["item_id"]] == event["arguments"]);
    last = event;
  }
  const std::vector<std::string> expected = {"created",
                                             "in_progress",
                                             "output_item.added",
                                             "content_part.added",
                                             "reasoning_text.delta",
                                             "reasoning_text.done",
                                             "content_part.done",
                                             "output_item.done",
                                             "output_item.added",
                                             "content_part.added",
                                             "output_text.delta",
                                             "output_text.done",
                                             "content_part.done",
                                             "output_item.done",
                                             "output_item.added",
                                             "function_call_arguments.delta",
                                             "function_call_arguments.done",
                                             "output_item.done",
                                             "completed"};
  CHECK(kinds == expected);
  CHECK(items == last["response"]["output"]);
  REQUIRE(items.size() == 3);
  for (size_t i = 0; i < 3; ++i)
    for (const char* key : {"type", "content", "arguments", "status"})
      CHECK(items[i].value(key, AnswerJson()) == whole["output"][i].value(key, AnswerJson()));

  // Given back with the call's answer, they are one turn.
  items[2]["call_id"] = "x";  // no call that the server has made
  const AnswerJson question = {{"role", "user"}, {"content", "hi"}};
  items.insert(items.begin(), question);
  items.push_back({{"type", "function_call_output"}, {"call_id", "x"}, {"output", "ok"}});
  body["input"] = items;
  body["input"][1]["content"][0]["text"] = "so";
  CHECK(server.model->tokenizer().decode(make_response(*server.model, {body, "body"})->requests[0].prompt) ==
        "fsbeEuhiEa<think>so</think>yes.<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>EtokEa");
}

TEST_CASE("a response that asks for state, or for what is not there, is refused by name") {
  const ToolServer server;
  const auto blamed = [&](const char* field, const AnswerJson& value) -> std::string {
    AnswerJson body = {{"input", "hi"}};
    body[field] = value;
    try {
      make_response(*server.model, {body, "body"});
    } catch (const ApiError& e) {
      CHECK(e.status() == 400);
      return e.field();
    }
    return "nothing";
  };
  for (const char* field : {"store", "background"}) {
    CHECK(blamed(field, true) == field);
    CHECK(blamed(field, false) == "nothing");
  }
  for (const char* field : {"previous_response_id", "conversation"}) CHECK(blamed(field, "x") == field);
  CHECK(blamed("previous_response_id", nullptr) == "nothing");
  CHECK(blamed("truncation", "auto") == "truncation");
  CHECK(blamed("include", AnswerJson::array({"reasoning.encrypted_content"})) == "nothing");
  CHECK(blamed("include", AnswerJson::array({"message.output_text.logprobs"})) == "include");
  CHECK(blamed("input", AnswerJson::array({{{"type", "item_reference"}, {"id", "x"}}})) == "input");
  CHECK(blamed("max_output_tokens", 0) == "max_output_tokens");
  CHECK(blamed("reasoning", {{"effort", "lots"}}) == "effort");
  CHECK(blamed("unheard_of", 1) == "unheard_of");
}
