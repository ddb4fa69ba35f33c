// Log-probabilities of a prompt: the model's own, however the prompt is cut, whatever is in the cache or beside it.
#include <cmath>

#include "config/model_config.h"
#include "generate/generate.h"
#include "generate/sequence_cache.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr int64_t kTop = 3;

Request scored(std::vector<int32_t> prompt) {
  Request r;
  r.prompt = std::move(prompt);
  r.max_new_tokens = 4;
  r.logprobs = r.prompt_logprobs = kTop;
  return r;
}

// By all_logits, in double.
std::vector<double> expected_scores(const CausalLM& model, const std::vector<int32_t>& tokens) {
  const Tensor logits = all_logits(model, tokens, DType::f32);
  std::vector<double> scores;
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    const float* row = logits.host<float>() + static_cast<int64_t>(i) * logits.dim(1);
    double sum = 0;
    for (int64_t v = 0; v < logits.dim(1); ++v) sum += std::exp(static_cast<double>(row[v]) - row[0]);
    scores.push_back(row[tokens[i + 1]] - row[0] - std::log(sum));
  }
  return scores;
}

bool same(const std::vector<TokenLogprobs>& a, const std::vector<TokenLogprobs>& b) {
  const auto equal = [](const TokenLogprob& x, const TokenLogprob& y) {
    return x.token == y.token && x.logprob == y.logprob;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const TokenLogprobs& x, const TokenLogprobs& y) {
    return equal(x.chosen, y.chosen) && std::equal(x.top.begin(), x.top.end(), y.top.begin(), y.top.end(), equal);
  });
}

}  // namespace

TEST_CASE("a prompt's scores are those of its logits, in one piece and in many") {
  for (const ModelConfig& config : tiny_models()) {
    INFO(config.architecture);
    const auto model = make_tiny(config);
    const std::vector<int32_t> prompt = random_tokens(45, 3);
    const std::vector<double> expected = expected_scores(*model, prompt);
    Engine whole(*model, byte_tokenizer(), {.max_batch_tokens = 64});
    const Completion once = generate(whole, {scored(prompt)}).completions[0][0];
    REQUIRE(once.prompt_logprobs.size() == expected.size());
    // A sum of 257 exponentials in f32 is off by up to 257 x 2^-24 = 1.5e-5 of itself, which a logarithm makes
    // absolute; logits of order 10 and the logarithm are rounded by 2^-21 = 5e-7 each.
    for (size_t i = 0; i < expected.size(); ++i) {
      CHECK(std::abs(once.prompt_logprobs[i].chosen.logprob - expected[i]) < 2e-5);
      CHECK(once.prompt_logprobs[i].chosen.token == prompt[i + 1]);
      CHECK(once.prompt_logprobs[i].top.size() == kTop);
    }
    // Again, now that its pages are in the cache; in small chunks; beside others that score and others that do not.
    const Completion again = generate(whole, {scored(prompt)}).completions[0][0];
    CHECK(same(again.prompt_logprobs, once.prompt_logprobs));
    CHECK(again.cached_tokens == 0);
    Engine chunked(*model, byte_tokenizer(), {.max_sequences = 4, .max_batch_tokens = 7});
    Request plain = scored(prompt), several = scored(prompt);
    plain.prompt_logprobs.reset();
    several.num_sequences = 3;
    const auto others = generate(chunked, {scored(random_tokens(30, 4)), plain, several, scored(prompt)}).completions;
    CHECK(same(others[3][0].prompt_logprobs, once.prompt_logprobs));
    CHECK(same(others[2][0].prompt_logprobs, once.prompt_logprobs));
    CHECK(others[2][2].prompt_logprobs.empty());
    CHECK(others[1][0].prompt_logprobs.empty());
    for (size_t i = 1; i < 4; ++i)
      for (const Completion& c : others[i]) {
        CHECK(c.tokens == once.tokens);
        CHECK(same(c.logprobs, once.logprobs));
      }
  }
}

TEST_CASE("a preempted prompt is scored once") {
  const auto model = make_tiny(tiny_llama());
  const std::vector<int32_t> prompt = random_tokens(40, 5);
  Engine roomy(*model, byte_tokenizer());
  const Completion alone = generate(roomy, {scored(prompt)}).completions[0][0];
  // Pages for 128 tokens: two of the sequences start together and push each other out on their way to 70.
  const size_t page = static_cast<size_t>(KVCache::page_bytes(model->sizes, layer_groups(model->sizes)[0], DType::f32));
  Engine tight(*model, byte_tokenizer(), {.kv_memory = 8 * page, .max_sequences = 4, .max_batch_tokens = 8});
  std::vector<Request> requests(3, scored(prompt));
  for (Request& r : requests) r.max_new_tokens = 30;
  std::vector<Completion> ended;
  for (const Request& r : requests)
    tight.submit(r, [&](const GenerationEvent& e) {
      if (e.completion) ended.push_back(*e.completion);
    });
  int64_t preempted = 0;
  while (!tight.idle()) preempted += tight.step().preempted;
  CHECK(preempted > 0);
  REQUIRE(ended.size() == 3);
  REQUIRE(alone.prompt_logprobs.size() == 39);
  for (const Completion& c : ended) CHECK(same(c.prompt_logprobs, alone.prompt_logprobs));
}

TEST_CASE("the first event carries the prompt's scores") {
  const auto model = make_tiny(tiny_llama());
  Engine engine(*model, byte_tokenizer());
  std::vector<size_t> counts;
  engine.submit(scored({1, 2, 3, 4}), [&](const GenerationEvent& e) { counts.push_back(e.prompt_logprobs.size()); });
  while (!engine.idle()) engine.step();
  CHECK(counts == std::vector<size_t>{3, 0, 0, 0});
}

TEST_CASE("a bias moves what is sampled and no log-probability, of its own request alone") {
  const auto model = make_tiny(tiny_llama());
  Engine engine(*model, byte_tokenizer());
  const Request plain = scored(random_tokens(5, 1));
  const Completion usual = generate(engine, {plain}).completions[0][0];
  Request pushed = plain, banned = plain;
  pushed.logit_bias = {{7, 100.0f}};
  banned.logit_bias = {{usual.tokens[0], -100.0f}};
  const auto together = generate(engine, {plain, pushed, banned, plain}).completions;
  for (const size_t i : {0, 3}) CHECK(together[i][0].tokens == usual.tokens);
  CHECK(together[1][0].tokens == std::vector<int32_t>(4, 7));
  CHECK(together[2][0].tokens[0] == usual.logprobs[0].top[1].token);
  CHECK(together[1][0].logprobs[0].top[0].logprob == usual.logprobs[0].top[0].logprob);
  pushed.logit_bias = {{7, 101.0f}};
  CHECK_THROWS_AS(engine.submit(pushed, {}), RequestError);
  pushed.logit_bias = {{1000, 1.0f}};
  CHECK_THROWS_AS(engine.submit(pushed, {}), RequestError);
}

TEST_CASE("a completion says which stop string ended it") {
  const auto model = make_tiny(tiny_llama());
  Engine engine(*model, byte_tokenizer());
  Request r = scored(random_tokens(5, 1));
  r.max_new_tokens = 20;
  r.ignore_eos = true;
  const Completion whole = generate(engine, {r}).completions[0][0];
  CHECK(whole.stop_string.empty());
  REQUIRE(whole.text->size() > 4);
  size_t cut = 1;
  while (cut < whole.text->size() && (static_cast<unsigned char>((*whole.text)[cut]) & 0xC0) == 0x80) ++cut;
  r.stop_strings = {"never seen in this text", whole.text->substr(0, cut)};
  const Completion stopped = generate(engine, {r}).completions[0][0];
  CHECK(stopped.stop_string == r.stop_strings[1]);
  CHECK(stopped.finish_reason == FinishReason::stop);
}
