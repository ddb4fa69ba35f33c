// Rotary scalings that depend on a text's length: an answer of n tokens is the beginning of a longer one, however it is
// computed, and each of its tokens is what the reference library's own generation gives.
#include <algorithm>

#include "config/model_config.h"
#include "generate/generate.h"
#include "generate/sequence_cache.h"
#include "generate/speculation.h"
#include "tests/catch.h"
#include "tests/generate/random_requests.h"

using namespace lathe;
using namespace lathe::test;

namespace {

ModelConfig scaled(RopeScaling scaling) {
  ModelConfig c = tiny_llama();
  c.max_position_embeddings = scaling == RopeScaling::longrope ? 128 : 24;
  c.rope_scaling = scaling;
  c.rope_factor = 4.0;
  c.rope_original_max_position = 24;
  c.rope_short_factor.assign(8, 1.0);
  c.rope_long_factor = {1, 2, 3, 5, 8, 13, 21, 34};
  return c;
}

Request request(int64_t prompt, int64_t max_new_tokens) {
  Request r;
  r.prompt = random_tokens(prompt, 3);
  r.max_new_tokens = max_new_tokens;
  r.ignore_eos = true;
  return r;
}

EngineOptions small_steps() {
  EngineOptions options;
  options.context = 96;
  return options;
}

std::vector<int32_t> answer(const CausalLM& model, const Request& r, const EngineOptions& options = small_steps()) {
  Engine engine(model, nullptr, options);
  return generate(engine, {r}).completions[0][0].tokens;
}

// Tokens [from, to) of a text by hand, after what a cache holds of it; the logits of the last.
int32_t best_after(const CausalLM& model, KVCache& cache, std::span<const int32_t> text, int64_t from,
                   RopeTable& rope) {
  BatchSequence s;
  const std::vector<int32_t> pages = {0, 1, 2, 3, 4, 5};
  s.tokens = text.subspan(static_cast<size_t>(from));
  s.cached = from;
  s.pages.assign(1, pages);
  s.rope = &rope;
  s.logits_from = std::ssize(s.tokens) - 1;
  const Tensor row = logits(model, make_batch({&s, 1}, &cache));
  return static_cast<int32_t>(std::max_element(row.data<float>(), row.data<float>() + row.dim(1)) - row.data<float>());
}

// transformers, dynamic_rope_update: the prompt has the frequencies of its length, each token after it those of the
// text that it ends, if that is longer than the trained context; keys stay.
std::vector<int32_t> dynamic_by_hand(const CausalLM& model, std::vector<int32_t> text, int64_t count) {
  KVCache cache(model.sizes, DType::f32, {6});
  const auto prompt = text.size();
  int64_t from = 0;
  while (std::ssize(text) < static_cast<int64_t>(prompt) + count) {
    const int64_t length = std::ssize(text);
    RopeTable rope(rope_frequencies(model.config, length), length);
    text.push_back(best_after(model, cache, text, from, rope));
    from = length;
  }
  return {text.begin() + static_cast<std::ptrdiff_t>(prompt), text.end()};
}

}  // namespace

TEST_CASE("growing texts: an answer is the beginning of a longer one") {
  for (const RopeScaling scaling : {RopeScaling::longrope, RopeScaling::dynamic, RopeScaling::qwen}) {
    const auto model = make_tiny(scaled(scaling));
    for (const int64_t prompt : {5, 20, 23, 24, 25, 40}) {
      INFO("scaling " << static_cast<int>(scaling) << ", a prompt of " << prompt);
      const std::vector<int32_t> longest = answer(*model, request(prompt, 40));
      REQUIRE(longest.size() == 40);
      for (const int64_t limit : {1, 2, 4, 5, 19, 20, 21, 39}) {
        const std::vector<int32_t> shorter = answer(*model, request(prompt, limit));
        CHECK(std::equal(shorter.begin(), shorter.end(), longest.begin()));
      }
    }
  }
}

TEST_CASE("growing texts: with longrope each token is the best one after the whole text before it") {
  const auto model = make_tiny(scaled(RopeScaling::longrope));
  std::vector<int32_t> text = random_tokens(20, 3);
  for (const int32_t token : answer(*model, request(20, 20))) {
    const Tensor all = all_logits(*model, text, DType::f32);
    const float* row = all.data<float>() + (all.dim(0) - 1) * all.dim(1);
    CHECK(token == std::max_element(row, row + all.dim(1)) - row);
    text.push_back(token);
  }
}

TEST_CASE("growing texts: with dynamic scaling a new token has the frequencies of the text that it ends") {
  const auto model = make_tiny(scaled(RopeScaling::dynamic));
  for (const int64_t prompt : {20, 30})
    CHECK(answer(*model, request(prompt, 20)) == dynamic_by_hand(*model, random_tokens(prompt, 3), 20));
}

TEST_CASE("growing texts: batched, chunked, preempted, shared and speculative = alone") {
  for (const RopeScaling scaling : {RopeScaling::longrope, RopeScaling::dynamic, RopeScaling::qwen}) {
    const ModelConfig config = scaled(scaling);
    const std::shared_ptr<const CausalLM> model = make_tiny(config);
    std::vector<Request> list;
    std::vector<std::vector<int32_t>> alone;
    for (const int64_t prompt : {18, 3, 23, 24, 31, 20}) {
      list.push_back(request(prompt, 30));
      alone.push_back(answer(*model, list.back()));
    }
    list[1].num_sequences = 2;
    for (const int64_t budget : {7, 64})
      for (const bool drafted : {false, true})
        for (const int64_t pages : {64, 9}) {
          INFO("scaling " << static_cast<int>(scaling) << ", budget " << budget << ", drafted " << drafted << ", "
                          << pages << " pages");
          EngineOptions options = small_steps();
          options.max_batch_tokens = budget;
          options.max_sequences = std::min<int64_t>(budget, 6);
          options.kv_memory = memory_for(config, DType::f32, pages);
          if (drafted) options.drafter = make_ngram_drafter();
          options.draft_tokens = 4;
          Engine engine(*model, nullptr, options);
          for (int round = 0; round < 2; ++round) {  // the second over the first one's prefixes
            const GenerationResult result = generate(engine, list);
            for (size_t i = 0; i < list.size(); ++i)
              for (const Completion& c : result.completions[i]) CHECK(c.tokens == alone[i]);
          }
        }
  }
}
