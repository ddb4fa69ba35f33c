// Answers that a grammar constrains: they satisfy it whatever the sampling, and are the same bits however they are
// served.
#include <nlohmann/json.hpp>

#include "formats/strict_json.h"
#include "generate/generate.h"
#include "generate/request_options.h"
#include "generate/speculation.h"
#include "tests/catch.h"
#include "tests/generate/random_requests.h"
#include "text/grammar/json_schema.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr const char* kRecord =
    R"({"type": "object", "properties": {"id": {"type": "integer", "minimum": 1, "maximum": 500}, "kind": {"enum": ["ab", "ac", null]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 3}, "ok": {"type": "boolean"}},
        "required": ["id", "tags"], "additionalProperties": false})";

std::shared_ptr<const Grammar> record() { return json_schema_grammar(kRecord, "schema"); }

Request constrained(uint64_t seed, int64_t most = 400) {
  Request r;
  r.prompt = random_tokens(6 + static_cast<int64_t>(seed % 30), seed);
  r.max_new_tokens = most;
  r.sampling.temperature = 2.0;
  r.sampling.seed = seed;
  r.grammar = record();
  r.stop_tokens = {kEndToken};
  r.logprobs = 1;
  return r;
}

// Guesses that the grammar refuses, most of them.
class AnyDrafter : public Drafter {
 public:
  std::vector<int32_t> draft(const DraftRequest& request, int64_t most) override {
    return random_tokens(most, request.tokens.size());
  }
};

bool is_record(const std::string& text) {
  const nlohmann::ordered_json v = parse_ordered_json(text, "answer");
  std::vector<std::string> names;
  for (const auto& [name, value] : v.items()) names.push_back(name);
  const std::vector<std::string> order = {"id", "kind", "tags", "ok"};
  bool right =
      v["id"].is_number_integer() && v["id"] >= 1 && v["id"] <= 500 && v["tags"].is_array() && v["tags"].size() <= 3;
  for (const std::string& name : names) right &= std::find(order.begin(), order.end(), name) != order.end();
  if (v.contains("kind")) right &= v["kind"].is_null() || v["kind"] == "ab" || v["kind"] == "ac";
  return right && (!v.contains("ok") || v["ok"].is_boolean());
}

}  // namespace

TEST_CASE("answers of a random model at temperature 2 satisfy their schema, under every filter and penalty") {
  const auto model = make_tiny(tiny_llama());
  EngineOptions options;
  options.context = 1024;
  Engine engine(*model, byte_tokenizer(), options);
  std::vector<Request> list;
  for (uint64_t i = 0; i < 40; ++i) {
    Request& r = list.emplace_back(constrained(i, 900));
    if (i % 4 == 1) r.sampling.top_k = 3;
    if (i % 4 == 2) r.sampling.top_p = 0.5, r.sampling.repetition_penalty = 1.2;
    if (i % 4 == 3) r.logit_bias = {{'"', 5.0f}, {'}', 100.0f}}, r.sampling.min_p = 0.1;
    if (i % 8 == 4) r.sampling.temperature = 0.0, r.logit_bias = {{'"', 20.0f}, {'}', 9.0f}, {']', 9.0f}};
  }
  int64_t ended = 0;
  for (const auto& completions : generate(engine, list).completions)
    for (const Completion& c : completions) {
      INFO(*c.text);
      CHECK((c.finish_reason == FinishReason::stop || c.finish_reason == FinishReason::length));
      if (c.finish_reason != FinishReason::stop) continue;
      ++ended;
      CHECK(c.tokens.back() == kEndToken);
      CHECK(is_record(*c.text));
    }
  CHECK(ended >= 30);
}

TEST_CASE("a constrained answer is the same bits alone, batched, chunked, preempted and with any guesses") {
  const std::shared_ptr<const CausalLM> model = make_tiny(tiny_llama());
  std::vector<Request> list;
  for (uint64_t i = 0; i < 8; ++i) {
    list.push_back(constrained(i, 60));
    list.back().num_sequences = 1 + static_cast<int64_t>(i % 3);
    if (i % 3 == 0) list.back().sampling.repetition_penalty = 1.1;
    if (i % 4 == 1) list.back().logit_bias = {{'}', 3.0f}};
    if (i % 4 == 2) list.back().grammar = nullptr;
  }
  EngineOptions plain;
  plain.context = 128;
  std::vector<std::string> expected;
  for (const Request& r : list) {
    Engine alone(*model, byte_tokenizer(), plain);
    for (const std::string& text : fingerprints(generate(alone, {r}))) expected.push_back(text);
  }
  const std::vector<std::shared_ptr<Drafter>> drafters = {nullptr, make_ngram_drafter(),
                                                          make_model_drafter(model, *model, DType::f32, 128, 4),
                                                          std::make_shared<AnyDrafter>()};
  for (const auto& drafter : drafters)
    for (const int64_t budget : {7, 512}) {
      EngineOptions options = plain;
      options.drafter = drafter;
      options.max_sequences = 4;
      options.max_batch_tokens = budget;
      options.kv_memory = memory_for(model->sizes, options.cache_dtype, 11);
      Engine engine(*model, byte_tokenizer(), options);
      CHECK(fingerprints(generate(engine, list)) == expected);
    }
}

TEST_CASE("log-probabilities of a constrained answer are the model's own") {
  const auto model = make_tiny(tiny_llama());
  Engine engine(*model, byte_tokenizer());
  Request free = constrained(1, 1);
  free.grammar = nullptr;
  free.logprobs = 257;
  const Completion all = generate(engine, {free}).completions[0][0],
                   one = generate(engine, {constrained(1, 1)}).completions[0][0];
  REQUIRE(one.tokens == std::vector<int32_t>{'{'});
  for (const TokenLogprob& t : all.logprobs[0].top)
    if (t.token == '{') CHECK(t.logprob == one.logprobs[0].chosen.logprob);
}

TEST_CASE("a constrained answer ends at an end token, or by itself where there is none; cut, it says length") {
  const auto model = make_tiny(tiny_llama());
  Engine engine(*model, byte_tokenizer());
  GrammarBuilder g;
  Request r = constrained(1);
  r.grammar = g.finish(g.text("[1]"));
  Completion c = generate(engine, {r}).completions[0][0];
  CHECK((c.finish_reason == FinishReason::stop && c.text == "[1]" &&
         c.tokens == std::vector<int32_t>{'[', '1', ']', kEndToken}));
  for (const bool ignored : {false, true}) {
    Request endless = r;
    endless.ignore_eos = ignored;
    if (!ignored) endless.stop_tokens.clear();
    c = generate(engine, {endless}).completions[0][0];
    CHECK((c.finish_reason == FinishReason::stop && c.text == "[1]" && c.tokens.size() == 3));
  }
  r.max_new_tokens = 2;
  c = generate(engine, {r}).completions[0][0];
  CHECK((c.finish_reason == FinishReason::length && c.text == "[1"));
}

TEST_CASE("a grammar that the vocabulary cannot write ends its own sequence with an error") {
  const auto model = make_tiny(tiny_llama());
  Engine engine(*model, byte_tokenizer());
  GrammarBuilder g;
  Request impossible = constrained(2), other = constrained(3, 5);
  impossible.grammar = g.finish(g.text("\xFF<nowhere>"));
  const auto completions = generate(engine, {impossible, other}).completions;
  CHECK(completions[0][0].finish_reason == FinishReason::error);
  CHECK(completions[0][0].error.find("lacks bytes") != std::string::npos);
  CHECK(completions[1][0].finish_reason == FinishReason::length);
  Engine without(*model, nullptr);
  CHECK_THROWS_AS(without.submit(other, {}), RequestError);
}

TEST_CASE("the option json_schema is a schema or its text, and one that is at fault is named") {
  RequestOptions options;
  const nlohmann::ordered_json file = {{"json_schema", {{"type", "integer"}}}};
  options.read({file, "line 1"});
  const auto grammar = options.over({}).grammar;
  REQUIRE(grammar != nullptr);
  options.json_schema = R"( {"type": "integer"})";
  CHECK(*options.over({}).grammar == *grammar);
  options.json_schema = R"({"multipleOf": 2})";
  try {
    options.over({});
    FAIL("no error");
  } catch (const RequestError& e) {
    CHECK(e.field() == "json_schema");
  }
}
