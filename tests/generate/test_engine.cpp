// The engine's contract: what ends an answer, what is streamed, what is refused.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "config/model_config.h"
#include "generate/generate.h"
#include "generate/sequence_cache.h"
#include "llm/family.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Fixture {
  std::unique_ptr<CausalLM> model = make_tiny(tiny_llama());
  std::shared_ptr<const Tokenizer> tokenizer = byte_tokenizer();
  EngineOptions options;

  Completion run(const Request& request) {
    Engine engine(*model, tokenizer, options);
    return generate(engine, {request}).completions[0][0];
  }
};

// Samples at temperature 1: greedy answers of a random model soon repeat themselves.
Request sampled_request(int64_t max_new_tokens = 60, uint64_t seed = 5) {
  Request r;
  r.prompt = {'H', 'e', 'l', 'l', 'o'};
  r.max_new_tokens = max_new_tokens;
  r.sampling.temperature = 1.0;
  r.sampling.seed = seed;
  r.stop_tokens = {kEndToken};
  r.ignore_eos = true;
  return r;
}

}  // namespace

TEST_CASE("a greedy answer is the highest logit of the model, step by step") {
  Fixture f;
  Request r;
  r.prompt = random_tokens(20, 2);
  r.max_new_tokens = 30;
  r.logprobs = 2;
  const Completion c = f.run(r);
  REQUIRE(c.tokens.size() == 30);
  std::vector<int32_t> tokens = r.prompt;
  tokens.insert(tokens.end(), c.tokens.begin(), c.tokens.end());
  const Tensor all = all_logits(*f.model, tokens, DType::f32);
  for (size_t i = 0; i < c.tokens.size(); ++i) {
    const float* row = all.data<float>() + static_cast<int64_t>(r.prompt.size() + i - 1) * all.dim(1);
    const float* best = std::max_element(row, row + all.dim(1));
    CHECK(c.tokens[i] == best - row);
    double sum = 0.0;
    for (int64_t v = 0; v < all.dim(1); ++v) sum += std::exp(static_cast<double>(row[v] - *best));
    CHECK(c.logprobs[i].chosen.logprob == Catch::Approx(-std::log(sum)).epsilon(1e-5));
    CHECK(c.logprobs[i].top[0].logprob == c.logprobs[i].chosen.logprob);
    CHECK(c.logprobs[i].top.size() == 2);
  }
  CHECK(c.finish_reason == FinishReason::length);
  CHECK(c.prompt_tokens == 20);
  CHECK(c.cached_tokens == 0);
}

TEST_CASE("a stop token ends the answer: its id is given, its text is not") {
  Fixture f;
  const Completion whole = f.run(sampled_request());
  const int32_t stop = whole.tokens[20];
  const auto first = std::find(whole.tokens.begin(), whole.tokens.end(), stop);
  Request r = sampled_request();
  r.ignore_eos = false;
  r.stop_tokens = {stop, kEndToken};
  const Completion c = f.run(r);
  CHECK(c.finish_reason == FinishReason::stop);
  CHECK(c.tokens == std::vector<int32_t>(whole.tokens.begin(), first + 1));
  CHECK(c.text == f.tokenizer->decode(std::span(c.tokens).first(c.tokens.size() - 1)));
  r.ignore_eos = true;
  CHECK(f.run(r).tokens == whole.tokens);
}

TEST_CASE("special tokens are left out of the text where that is asked for, but for those that somebody looks for") {
  Fixture f;
  Request r = sampled_request();
  r.logit_bias = {{'a', 100.0f}, {kEndToken, 100.0f}};  // these two alone
  const Completion kept = f.run(r);
  const auto specials = std::count(kept.tokens.begin(), kept.tokens.end(), kEndToken);
  REQUIRE((specials > 0 && specials < std::ssize(kept.tokens)));
  CHECK(kept.text == f.tokenizer->decode(kept.tokens));
  r.skip_special_tokens = true;
  const Completion skipped = f.run(r);
  CHECK(skipped.tokens == kept.tokens);
  CHECK(skipped.text == std::string(kept.tokens.size() - static_cast<size_t>(specials), 'a'));
  r.kept_marks = {"<|im_end|>thought"};
  CHECK(f.run(r).text == kept.text);
  r.kept_marks = {"im_end"};
  CHECK(f.run(r).text == skipped.text);
  r.stop_strings = {"a<|im_end|>"};
  CHECK(f.run(r).text == kept.text->substr(0, kept.text->find("a<|im_end|>")));
}

TEST_CASE("a stop string ends the answer before it, wherever token borders lie") {
  Fixture f;
  const Completion whole = f.run(sampled_request());
  REQUIRE(whole.text == f.tokenizer->decode(whole.tokens));
  // Every token is one byte, so a stop string of some characters always spans tokens.
  int tried = 0;
  for (size_t begin = 0; begin + 3 < whole.text->size(); ++begin) {
    const std::string stop = whole.text->substr(begin, 3);
    if (std::any_of(stop.begin(), stop.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) continue;
    Request r = sampled_request();
    r.stop_strings = {"never to be found", stop};
    const Completion c = f.run(r);
    CHECK(c.finish_reason == FinishReason::stop);
    CHECK(c.text == whole.text->substr(0, whole.text->find(stop)));
    CHECK(std::equal(c.tokens.begin(), c.tokens.end(), whole.tokens.begin()));
    ++tried;
  }
  CHECK(tried > 3);
}

TEST_CASE("the pieces of a stream are the text, whole characters each, at every length") {
  Fixture f;
  for (int64_t length = 1; length <= 48; ++length) {
    for (const std::vector<std::string>& stops : {std::vector<std::string>{}, {"\xef\xbf\xbd\xef\xbf\xbd", "zz"}}) {
      Engine engine(*f.model, f.tokenizer, f.options);
      Request r = sampled_request(length);
      r.stop_strings = stops;
      std::string text;
      std::vector<int32_t> tokens;
      GenerateCallbacks callbacks;
      callbacks.on_event = [&](size_t, const GenerationEvent& e) {
        if (!e.text.empty()) CHECK((static_cast<unsigned char>(e.text[0]) & 0xc0) != 0x80);
        text += e.text;
        if (e.token) tokens.push_back(*e.token);
      };
      const Completion c = generate(engine, {r}, callbacks).completions[0][0];
      CHECK(text == c.text);
      CHECK(tokens == c.tokens);
      const std::string decoded = f.tokenizer->decode(c.tokens);
      CHECK(text == (c.finish_reason == FinishReason::stop ? decoded.substr(0, decoded.find(stops[0])) : decoded));
    }
  }
}

TEST_CASE("an answer ends where the context does") {
  Fixture f;
  f.options.context = 32;
  Request r = sampled_request(1000);
  r.prompt = random_tokens(30, 1);
  CHECK(f.run(r).tokens.size() == 2);
  CHECK(f.run(r).finish_reason == FinishReason::length);
  r.prompt = random_tokens(32, 1);
  CHECK(f.run(r).tokens.size() == 1);
  r.prompt = random_tokens(33, 1);
  CHECK_THROWS_WITH(f.run(r), ContainsSubstring("33 tokens") && ContainsSubstring("context is 32"));
}

TEST_CASE("rotary models may be taken past their context, learned positions not") {
  Fixture f;
  f.options.context = 600;
  Request r = sampled_request(4);
  r.prompt = random_tokens(590, 1);
  CHECK(f.run(r).tokens.size() == 4);
  f.model = make_tiny(tiny_gpt2());
  CHECK_THROWS_WITH(f.run(r), ContainsSubstring("600") && ContainsSubstring("512"));
}

TEST_CASE("requests that cannot be are refused by name, and the engine goes on") {
  Fixture f;
  Engine engine(*f.model, f.tokenizer, f.options);
  const auto refused = [&](const char* message, const std::function<void(Request&)>& change) {
    Request r = sampled_request();
    change(r);
    CHECK_THROWS_WITH(engine.submit(r, {}), ContainsSubstring(message));
  };
  refused("the prompt has no token", [](Request& r) { r.prompt.clear(); });
  refused("token 1 of the prompt is 257, the vocabulary has 257", [](Request& r) { r.prompt = {0, 257}; });
  refused("token 0 of the prompt is -1", [](Request& r) { r.prompt = {-1}; });
  refused("max_new_tokens", [](Request& r) { r.max_new_tokens = 0; });
  refused("num_sequences", [](Request& r) { r.num_sequences = 0; });
  refused("logprobs", [](Request& r) { r.logprobs = -1; });
  refused("top_p", [](Request& r) { r.sampling.top_p = 2.0; });
  refused("stop strings", [](Request& r) { r.stop_strings = {""}; });
  CHECK(engine.idle());
  Engine textless(*f.model, nullptr, f.options);
  Request r = sampled_request();
  r.stop_strings = {"x"};
  CHECK_THROWS_WITH(textless.submit(r, {}), ContainsSubstring("tokenizer"));
  CHECK(generate(engine, {sampled_request(3)}).completions[0][0].tokens.size() == 3);
}

TEST_CASE("one page too few is an error with the counts before anything is computed") {
  Fixture f;
  const LayerGroup group = layer_groups(f.model->sizes)[0];
  f.options.kv_memory = 3 * KVCache::page_bytes(f.model->sizes, group, DType::f32);
  Request r = sampled_request(16);
  r.prompt = random_tokens(32, 3);
  CHECK(f.run(r).tokens.size() == 16);
  r.max_new_tokens = 17;
  CHECK_THROWS_WITH(f.run(r), ContainsSubstring("49 tokens needs 4 pages") && ContainsSubstring("has 3"));
  f.options.kv_memory = 100;
  CHECK_THROWS_WITH(f.run(r), ContainsSubstring("100 bytes"));
}

TEST_CASE("without a tokenizer there are ids and no text") {
  Fixture f;
  f.tokenizer = nullptr;
  const Completion c = f.run(sampled_request(4));
  CHECK(c.tokens.size() == 4);
  CHECK_FALSE(c.text);
}

TEST_CASE("cancelling ends a request with what it has, running or waiting, from inside a callback too") {
  Fixture f;
  f.options.max_sequences = 1;
  Engine engine(*f.model, f.tokenizer, f.options);
  std::vector<Completion> ended;
  int64_t tokens = 0;
  const auto collect = [&](const GenerationEvent& e) {
    if (e.completion) ended.push_back(*e.completion);
  };
  const RequestId running = engine.submit(sampled_request(), [&](const GenerationEvent& e) {
    collect(e);
    if (e.token && ++tokens == 7) engine.cancel(e.request);
  });
  const RequestId waiting = engine.submit(sampled_request(), collect);
  engine.submit(sampled_request(2), collect);
  engine.step();
  engine.cancel(waiting);
  REQUIRE(ended.size() == 1);
  CHECK(ended[0].finish_reason == FinishReason::cancelled);
  CHECK(ended[0].tokens.empty());
  while (!engine.idle()) engine.step();
  REQUIRE(ended.size() == 3);
  CHECK(ended[1].finish_reason == FinishReason::cancelled);
  CHECK(ended[1].tokens.size() == 7);
  CHECK(ended[1].text == f.tokenizer->decode(ended[1].tokens));
  CHECK(ended[2].finish_reason == FinishReason::length);
  engine.cancel(running);
  engine.cancel(12345);
  CHECK(engine.step().sequences == 0);
}

TEST_CASE("what a callback throws passes through, and nothing is lost or left over") {
  Fixture f;
  Engine engine(*f.model, f.tokenizer, f.options);
  int64_t tokens = 0;
  engine.submit(sampled_request(5), [](const GenerationEvent& e) {
    if (e.completion) throw std::runtime_error("mine");
  });
  engine.submit(sampled_request(5), [&](const GenerationEvent& e) { tokens += e.token.has_value(); });
  for (int i = 0; i < 4; ++i) engine.step();
  CHECK_THROWS_WITH(engine.step(), "mine");
  CHECK(tokens == 4);
  CHECK_FALSE(engine.idle());
  CHECK(engine.step().sequences == 0);
  CHECK(tokens == 5);

  GenerateCallbacks callbacks;
  callbacks.on_event = [](size_t, const GenerationEvent&) { throw std::runtime_error("again"); };
  CHECK_THROWS_WITH(generate(engine, {sampled_request(), sampled_request()}, callbacks), "again");
  CHECK(engine.idle());
  Request bad = sampled_request();
  bad.prompt.clear();
  CHECK_THROWS_AS(generate(engine, {sampled_request(), bad}), Error);
  CHECK(engine.idle());
}

TEST_CASE("an interruption gives back what there is") {
  Fixture f;
  Engine engine(*f.model, f.tokenizer, f.options);
  int polls = 0;
  GenerateCallbacks callbacks;
  callbacks.interrupted = [&] { return ++polls > 5; };
  const GenerationResult result = generate(engine, {sampled_request(), sampled_request(2)}, callbacks);
  CHECK(result.completions[0][0].finish_reason == FinishReason::cancelled);
  CHECK(result.completions[0][0].tokens.size() == 5);
  CHECK(result.completions[1][0].finish_reason == FinishReason::length);
  CHECK(result.timing.prefill_tokens == 10);
  CHECK(result.timing.decode_tokens == 5);
}

TEST_CASE("logits that are no numbers end their own sequence and no other") {
  Fixture f;
  f.model = family_of(tiny_llama()).make(tiny_llama());
  initialise(*f.model, 1);
  for (const NamedParameter& p : named_parameters(*f.model))
    if (p.parameter->kind == Parameter::Kind::embedding)
      p.parameter->value.data<float>()[64 * 200] = std::numeric_limits<float>::quiet_NaN();
  prepare_for_inference(*f.model, Arithmetic::f32);
  Request bad = sampled_request();
  bad.prompt = {1, 200, 2};
  Engine engine(*f.model, f.tokenizer, f.options);
  const GenerationResult both = generate(engine, {bad, sampled_request(1)});
  const Completion& c = both.completions[0][0];
  CHECK(c.finish_reason == FinishReason::error);
  CHECK_THAT(c.error, ContainsSubstring("position 3") && ContainsSubstring("nan"));
  CHECK(c.tokens.empty());
  CHECK(both.completions[1][0].finish_reason == FinishReason::length);
}

TEST_CASE("a seed that was not given is chosen, reported, and repeats the answer") {
  Fixture f;
  Request r = sampled_request();
  r.sampling.seed.reset();
  const Completion first = f.run(r), second = f.run(r);
  CHECK(first.seed != second.seed);
  CHECK(first.tokens != second.tokens);
  r.sampling.seed = first.seed;
  CHECK(f.run(r).tokens == first.tokens);
}

TEST_CASE("penalties count what the answer repeats") {
  Fixture f;
  Request r = sampled_request(100);
  r.sampling.temperature = 0.0;
  r.sampling.frequency_penalty = 1000.0;
  std::vector<int32_t> tokens = f.run(r).tokens;
  std::sort(tokens.begin(), tokens.end());
  CHECK(std::adjacent_find(tokens.begin(), tokens.end()) == tokens.end());
}

TEST_CASE("the stop set is the union of what every file names") {
  LoadedModel loaded;
  ModelConfig config = tiny_llama();
  config.eos_token_ids = {9, 5};
  loaded.model = family_of(config).make(config);
  CHECK(stop_tokens(loaded, nullptr) == std::vector<int32_t>{5, 9});
  loaded.checkpoint.generation.eos_token_ids = {3, 5};
  CHECK(stop_tokens(loaded, nullptr) == std::vector<int32_t>{3, 5, 9});
  CHECK(stop_tokens(loaded, byte_tokenizer().get()) == std::vector<int32_t>{3, 5, 9, kEndToken});
}

TEST_CASE("defaults come from the model's own settings") {
  CHECK(sampling_defaults({}).temperature == 0.0);
  GenerationDefaults d;
  d.do_sample = true;
  CHECK(sampling_defaults(d).temperature == 1.0);
  d.temperature = 0.6;
  d.top_p = 0.9;
  d.top_k = 40;
  d.repetition_penalty = 1.1;
  CHECK(sampling_defaults(d).temperature == 0.6);
  CHECK(sampling_defaults(d).top_p == 0.9);
  CHECK(sampling_defaults(d).top_k == 40);
  d.do_sample = false;
  CHECK(sampling_defaults(d).temperature == 0.0);
  CHECK(sampling_defaults(d).repetition_penalty == 1.1);
  d.do_sample.reset();
  CHECK(sampling_defaults(d).temperature == 0.6);
}
