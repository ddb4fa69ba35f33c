// Embeddings: pooled hidden states, with the same bits alone, in pieces and beside others.
#include <cmath>
#include <fstream>

#include "config/model_config.h"
#include "generate/generate.h"
#include "generate/sequence_cache.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"

using namespace lathe;
using namespace lathe::test;

namespace {

Request pooled(std::vector<int32_t> prompt, Pooling pooling) {
  Request r;
  r.prompt = std::move(prompt);
  r.pooling = pooling;
  return r;
}

std::vector<double> expected_embedding(const CausalLM& model, const std::vector<int32_t>& tokens, Pooling pooling) {
  SequenceCache cache(model, DType::f32, 64, 16);
  CachedSequence sequence = cache.begin(std::ssize(tokens));
  const SequenceCache::Extension extension{&sequence, tokens};
  const Tensor hidden = cache.extend({&extension, 1});  // (N, C)
  std::vector<double> x(static_cast<size_t>(hidden.dim(1)));
  for (int64_t row = pooling == Pooling::mean ? 0 : hidden.dim(0) - 1; row < hidden.dim(0); ++row)
    for (size_t i = 0; i < x.size(); ++i)
      x[i] += hidden.host<float>()[row * hidden.stride() + static_cast<int64_t>(i)] / double(hidden.dim(0));
  double squares = 0;
  for (const double v : x) squares += v * v;
  for (double& v : x) v /= std::sqrt(squares);
  return x;
}

}  // namespace

TEST_CASE("an embedding is the mean or the last of the hidden states, of unit length, whatever is computed beside it") {
  for (const ModelConfig& config : tiny_models())
    for (const Pooling pooling : {Pooling::mean, Pooling::last}) {
      INFO(config.architecture << (pooling == Pooling::mean ? " mean" : " last"));
      const auto model = make_tiny(config);
      const std::vector<int32_t> prompt = random_tokens(45, 3);
      const std::vector<double> expected = expected_embedding(*model, prompt, pooling);
      Engine whole(*model, byte_tokenizer(), {.max_batch_tokens = 64});
      const Completion alone = generate(whole, {pooled(prompt, pooling)}).completions[0][0];
      CHECK(alone.tokens.empty());
      CHECK(alone.finish_reason == FinishReason::stop);
      CHECK(alone.prompt_tokens == 45);
      REQUIRE(alone.embedding.size() == expected.size());
      // The states have the same bits; a number of at most 1 is rounded by 2^-25 = 3e-8.
      for (size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(alone.embedding[i] - expected[i]) < 4e-8);
      // Again, with the pages that are there by now; in small pieces; beside others.
      CHECK(generate(whole, {pooled(prompt, pooling)}).completions[0][0].embedding == alone.embedding);
      Engine chunked(*model, byte_tokenizer(), {.max_sequences = 4, .max_batch_tokens = 7});
      Request writes;
      writes.prompt = prompt;
      writes.num_sequences = 2;
      writes.max_new_tokens = 9;
      writes.logprobs = writes.prompt_logprobs = 1;
      const auto together = generate(chunked, {writes, pooled(prompt, pooling), pooled(random_tokens(1, 5), pooling),
                                               writes, pooled(prompt, pooling)})
                                .completions;
      CHECK(together[1][0].embedding == alone.embedding);
      CHECK(together[4][0].embedding == alone.embedding);
      const auto written = generate(whole, {writes}).completions[0];
      CHECK(together[3][1].tokens == written[1].tokens);
      CHECK(together[0][0].logprobs[8].chosen.logprob == written[0].logprobs[8].chosen.logprob);
      CHECK(chunked.load().used_pages == 0);
    }
}

TEST_CASE("a preempted prompt is pooled once, and what cannot be an embedding is refused") {
  const auto model = make_tiny(tiny_llama());
  const std::vector<int32_t> prompt = random_tokens(60, 5);
  Engine roomy(*model, byte_tokenizer());
  const Completion alone = generate(roomy, {pooled(prompt, Pooling::mean)}).completions[0][0];
  // Pages for 128 tokens: an older sequence grows while prompts of 60 come in pieces of 8, and takes their pages.
  const size_t page = static_cast<size_t>(KVCache::page_bytes(model->sizes, layer_groups(model->sizes)[0], DType::f32));
  Engine tight(*model, byte_tokenizer(), {.kv_memory = 8 * page, .max_sequences = 4, .max_batch_tokens = 8});
  std::vector<Completion> ended;
  int64_t preempted = 0;
  for (int64_t answer = 2; answer < 60; answer += 7) {
    Request grows = pooled(random_tokens(14, 6), Pooling::mean);
    grows.pooling.reset();
    grows.max_new_tokens = answer;
    grows.ignore_eos = true;
    for (const Request& r : {grows, grows, pooled(prompt, Pooling::mean)})
      tight.submit(r, [&](const GenerationEvent& e) {
        if (e.completion && !e.completion->embedding.empty()) ended.push_back(*e.completion);
      });
    while (!tight.idle()) preempted += tight.step().preempted;
  }
  CHECK(preempted > 0);
  REQUIRE(ended.size() == 9);
  for (const Completion& c : ended) CHECK(c.embedding == alone.embedding);

  Request several = pooled(prompt, Pooling::mean);
  several.num_sequences = 2;
  CHECK_THROWS_AS(roomy.check_request(several), RequestError);
  CHECK_THROWS_AS(roomy.check_request(pooled({}, Pooling::mean)), RequestError);
  CHECK_THROWS_AS(roomy.check_request(pooled(random_tokens(roomy.context() + 1, 1), Pooling::last)), RequestError);
}
