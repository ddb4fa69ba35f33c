// What goes into a request and comes out of an answer: fields, conversations, log-probabilities, errors.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "formats/strict_json.h"
#include "serve/chat_messages.h"
#include "serve/logprobs.h"
#include "serve/metrics.h"
#include "serve/request_fields.h"
#include "tests/catch.h"
#include "tests/serve/tiny_chat.h"

using namespace lathe;

namespace {

using Json = nlohmann::ordered_json;

std::string blamed(const std::string& body, const std::function<void(RequestFields&)>& f) {
  const Json json = parse_ordered_json(body, "body");
  const OrderedJsonNode node(json, "body");
  try {
    RequestFields fields(node);
    f(fields);
    fields.finish();
  } catch (const ApiError& e) {
    CHECK(e.status() == 400);
    return e.field();
  }
  return "nothing";
}

}  // namespace

TEST_CASE("every field is known, ignored or refused by name") {
  RequestOptions options;
  const auto read = [&](RequestFields& f) {
    options = {};
    f.sampling(options);
    f.option(options, "n", "num_sequences");
    f.only("logit_bias", Json::object());
    f.ignore({"user"});
  };
  CHECK(blamed(R"({"temperature": 0.5, "stop": ["a"], "seed": 3, "n": 2, "user": "me", "logit_bias": {}})", read) ==
        "nothing");
  CHECK(*options.temperature == 0.5);
  CHECK(options.stop == std::vector<std::string>{"a"});
  CHECK(options.num_sequences == 2);
  CHECK(options.skip_special_tokens);
  CHECK(blamed(R"({"skip_special_tokens": false})", read) == "nothing");
  CHECK_FALSE(options.skip_special_tokens);
  CHECK(blamed(R"({"temperature": null, "logit_bias": null})", read) == "nothing");
  CHECK_FALSE(options.temperature);
  CHECK(blamed(R"({"temperature": "hot"})", read) == "temperature");
  CHECK(blamed(R"({"n": 0})", read) == "n");
  CHECK(blamed(R"({"n": 1.5})", read) == "n");
  CHECK(blamed(R"({"stop": ["a", 1]})", read) == "stop");
  CHECK(blamed(R"({"logit_bias": {"1": 5}})", read) == "logit_bias");
  CHECK(blamed(R"({"max_new_tokens": 5})", read) == "max_new_tokens");
  CHECK(blamed(R"({"greedy": true})", read) == "greedy");
  CHECK(blamed(R"({"temprature": 1})", read) == "temprature");
  CHECK(blamed("[1]", read).empty());
}

TEST_CASE("an engine's complaint has the API's name of the field") {
  const Json json = {{"n", 3}};
  const OrderedJsonNode node(json, "body");
  RequestFields fields(node);
  RequestOptions options;
  fields.option(options, "n", "num_sequences");
  CHECK(fields.blame({"num_sequences", "too many"}).field() == "n");
  CHECK(fields.blame({"top_p", "too large"}).field() == "top_p");
}

TEST_CASE("conversations become what templates take") {
  const auto prepared = [](const std::string& text) {
    const Json json = parse_ordered_json(text, "messages");
    return chat_messages({json, "messages"}).dump();
  };
  CHECK(
      prepared(
          R"([{"role":"developer","content":"x"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])") ==
      R"([{"role":"system","content":"x"},{"role":"user","content":"ab"}])");
  CHECK(
      prepared(
          R"([{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":"{\"x\":1}"}}]}])") ==
      R"([{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":{"x":1}}}]}])");
  CHECK_THROWS_WITH(prepared(R"([{"role":"user","content":[{"type":"image_url"}]}])"),
                    Catch::Matchers::ContainsSubstring("messages[0].content[0].type"));

  const Json messages = parse_ordered_json(R"([{"role":"user","content":"hi"}])", "messages");
  const auto system = [&](const std::string& text) {
    return anthropic_messages(Json(text), {messages, "messages"})[0]["content"].get<std::string>();
  };
  CHECK(system("x-anthropic-billing-header: v=1; cch=a1b2c;\nBe kind.") ==
        "x-anthropic-billing-header: v=1; ;\nBe kind.");
  CHECK(system("x-anthropic-billing-header: v=1;\ncch=kept;") == "x-anthropic-billing-header: v=1;\ncch=kept;");
  CHECK(system("Say cch=1;") == "Say cch=1;");
}

TEST_CASE("log-probabilities have both shapes, and no number that JSON cannot hold") {
  const test::TinyChat folder;
  const auto tokenizer = Tokenizer::load(folder.folder.path().string());
  const int32_t a = *tokenizer->token_id("a"), b = *tokenizer->token_id("b");
  const float infinite = -std::numeric_limits<float>::infinity(), third = std::log(1.0f / 3);
  LegacyLogprobs list(tokenizer.get());
  list.add_first(a, true);
  list.add({{b, third}, {{a, -0.5f}}});
  list.add({{a, infinite}, {}});
  const Json first = list.take();
  CHECK(first["tokens"] == Json({"a", "b", "a"}));
  CHECK(first["text_offset"] == Json({0, 1, 2}));
  CHECK(first["token_logprobs"][0].is_null());
  CHECK(first["top_logprobs"][1]["b"] == first["token_logprobs"][1]);  // the same number, to its last bit
  CHECK(first["token_logprobs"][1].get<double>() == third);
  CHECK(first["top_logprobs"][1].size() == 2);
  CHECK(first["token_logprobs"][2] == -9999.0);
  list.add({{b, -1.0f}, {}});
  CHECK(list.take()["text_offset"] == Json({3}));  // goes on where the last chunk ended

  const Json chat = chat_logprob(*tokenizer, {{a, infinite}, {{b, -1.0f}}});
  CHECK(chat.dump() ==
        R"({"token":"a","logprob":-9999.0,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-1.0,"bytes":[98]}]})");
  CHECK(dump_json({{"x", std::nan("")}, {"y", "\xff"}}) == "{\"x\":null,\"y\":\"\xEF\xBF\xBD\"}");
}

TEST_CASE("errors and histograms are what clients and Prometheus read") {
  CHECK(ApiError(400, "bad", "top_p", "code").openai().dump() ==
        R"({"error":{"message":"bad","type":"invalid_request_error","param":"top_p","code":"code"}})");
  CHECK(ApiError(429, "busy").anthropic().dump() ==
        R"({"type":"error","error":{"type":"rate_limit_error","message":"busy"}})");
  Histogram histogram(kSecondsBounds);
  for (const double seconds : {0.0005, 0.001, 0.3, 1e6}) histogram.add(seconds);
  const std::string text = histogram_text("x", "m=\"a\"", histogram);
  CHECK(text.find("x_bucket{m=\"a\",le=\"0.001\"} 2\n") != std::string::npos);  // a bound belongs to its bucket
  CHECK(text.find("x_bucket{m=\"a\",le=\"0.5\"} 3\n") != std::string::npos);
  CHECK(text.find("x_bucket{m=\"a\",le=\"+Inf\"} 4\n") != std::string::npos);
  CHECK(text.find("x_count{m=\"a\"} 4\n") != std::string::npos);
}
