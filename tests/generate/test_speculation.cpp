// Speculative decoding changes no bit of any answer, whoever guesses, and counts honestly.
#include "generate/generate.h"
#include "generate/speculation.h"
#include "tensor/random.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// Guesses that are right by chance at best.
class RandomDrafter : public Drafter {
 public:
  std::vector<int32_t> draft(const DraftRequest&, int64_t most) override {
    std::vector<int32_t> guesses;
    for (int64_t i = 0; i < most; ++i) guesses.push_back(static_cast<int32_t>(random_uniform(1, 2, drawn_++) * 257.0));
    return guesses;
  }

 private:
  uint64_t drawn_ = 0;
};

std::vector<Request> requests(int64_t count) {
  std::vector<Request> list;
  for (int64_t i = 0; i < count; ++i) {
    Request& r = list.emplace_back();
    r.prompt = random_tokens(9 + 8 * (i % 4), static_cast<uint64_t>(i));
    // A prompt that repeats itself, for the n-grams.
    r.prompt.insert(r.prompt.end(), r.prompt.begin(), r.prompt.begin() + 8);
    r.max_new_tokens = 3 + 13 * (i % 3);
    r.num_sequences = 1 + i % 2;
    r.logprobs = 2;
    r.sampling.seed = 5;
    r.sampling.temperature = i % 3 == 0 ? 0.0 : 0.7;
    if (i % 4 == 1) r.sampling.repetition_penalty = 1.2;
    if (i % 4 == 2) r.stop_tokens = {static_cast<int32_t>(7 * i), 3, 77, 130, 200};
  }
  return list;
}

std::string fingerprint(const GenerationResult& result) {
  std::string text;
  for (const auto& completions : result.completions)
    for (const Completion& c : completions) {
      text += fmt::format("{} {}:", c.sequence, name(c.finish_reason));
      for (size_t i = 0; i < c.tokens.size(); ++i)
        text += fmt::format(" {} {:a}", c.tokens[i], c.logprobs[i].chosen.logprob);
    }
  return text;
}

}  // namespace

TEST_CASE("speculation changes no answer: guesses by n-grams, by a model, by chance; batched, chunked, preempted") {
  for (const ModelConfig& config : tiny_models()) {
    const std::shared_ptr<const CausalLM> model = make_tiny(config, DType::q4_0, Arithmetic::int8);
    const std::shared_ptr<const CausalLM> other = make_tiny(config);
    const std::vector<Request> list = requests(12);
    EngineOptions plain;
    plain.cache_dtype = DType::f16;
    plain.context = 128;
    plain.max_sequences = 4;
    Engine reference(*model, nullptr, plain);
    const std::string expected = fingerprint(generate(reference, list));
    const std::vector<std::shared_ptr<Drafter>> drafters = {
        make_ngram_drafter(), make_model_drafter(model, *model, DType::f16, 128, 4),
        make_model_drafter(other, *model, DType::f32, 128, 4), std::make_shared<RandomDrafter>()};
    for (size_t d = 0; d < drafters.size(); ++d)
      for (const int64_t budget : {5, 40, 512})
        for (const int64_t guesses : {1, 6}) {
          INFO(model->sizes.architecture << ", drafter " << d << ", budget " << budget << ", guesses " << guesses);
          EngineOptions options = plain;
          options.drafter = drafters[d];
          options.max_batch_tokens = budget;
          options.draft_tokens = guesses;
          // Room for one sequence and a little: the others are preempted.
          for (const LayerGroup& g : layer_groups(model->sizes))
            options.kv_memory += 9 * KVCache::page_bytes(model->sizes, g, options.cache_dtype);
          Engine engine(*model, nullptr, options);
          CHECK(fingerprint(generate(engine, list)) == expected);
        }
  }
}

TEST_CASE("a model that drafts for itself is always right, sampled text included") {
  const std::shared_ptr<const CausalLM> model = make_tiny(tiny_llama());
  for (const double temperature : {0.0, 1.0}) {
    Request r;
    r.prompt = random_tokens(20, 1);
    r.max_new_tokens = 25;
    r.sampling.temperature = temperature;
    r.sampling.seed = 3;
    EngineOptions options;
    options.drafter = make_model_drafter(model, *model, DType::f32, 128, 1);
    options.draft_tokens = 3;
    Engine engine(*model, nullptr, options);
    generate(engine, {r});
    CHECK(engine.speculation().drafted() > 0);
    CHECK(engine.speculation().accepted() == engine.speculation().drafted());
  }
}

TEST_CASE("n-grams propose what followed the last time, and nothing without a precedent") {
  const auto drafter = make_ngram_drafter();
  const SamplingParameters sampling;
  const auto draft = [&](const std::vector<int32_t>& tokens, int64_t most) {
    return drafter->draft({0, tokens, sampling, {}}, most);
  };
  CHECK(draft({1, 2, 3, 4, 5, 1, 2, 3}, 2) == std::vector<int32_t>{4, 5});
  CHECK(draft({1, 2, 3, 4, 1, 2, 3, 9, 1, 2, 3}, 1) == std::vector<int32_t>{9});     // the latest
  CHECK(draft({7, 2, 3, 4, 5, 1, 2, 3}, 9) == std::vector<int32_t>{4, 5, 1, 2, 3});  // two tokens where three fail
  CHECK(draft({1, 2, 3, 4, 5}, 4).empty());
  CHECK(draft({1}, 4).empty());
}

TEST_CASE("speculation stops while it loses and tries again") {
  SpeculationControl control;
  CHECK(control.draft_length(4) == 4);
  for (int step = 0; step < 4; ++step) control.report(1, 0, 0, 1.0);
  // Twice the time for one token in ten steps: 0.55.
  for (int step = 0; step < 8; ++step) control.report(1, 4, step == 0 ? 1 : 0, 2.0);
  CHECK(control.draft_length(4) == 0);
  for (int step = 0; step < 64; ++step) control.report(1, 0, 0, 1.0);
  CHECK(control.draft_length(4) == 4);
  // Twice the time for three tokens: it stays.
  for (int step = 0; step < 64; ++step) control.report(1, 4, 2, 2.0);
  CHECK(control.draft_length(4) == 4);
  CHECK(control.cost() == Catch::Approx(2.0));
  CHECK(control.yield() == Catch::Approx(3.0).epsilon(0.01));
  CHECK(control.drafted() == 4 * 72);
}
