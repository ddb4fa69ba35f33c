// One forward serves training and generation: what a training step makes of a text's tokens is what the engine reports
// when it generates them.
#include <algorithm>
#include <cmath>

#include "generate/generate.h"
#include "generate/sequence_cache.h"
#include "llm/load.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "train/trainer.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// The engine's greedy answer and the log-probability of each of its tokens. Its steps take 16 tokens at most: a longer
// prompt is computed in chunks, through the cache.
Completion answer(const std::string& model, const std::vector<int32_t>& prompt, int64_t tokens) {
  const LoadedModel loaded = load_model(model, {.dtype = ComputeDtype::float32});
  Engine engine(*loaded.model, nullptr,
                {.cache_dtype = loaded.cache_dtype, .max_sequences = 1, .max_batch_tokens = 16});
  Request request;
  request.prompt = prompt;
  request.max_new_tokens = tokens;
  request.ignore_eos = true;
  request.logprobs = 0;
  return generate(engine, {request}).completions[0][0];
}

// What the loss's path makes of each token but the first, weights unpacked as a training step has them.
std::vector<float> trained(const std::string& model, const std::vector<int32_t>& tokens) {
  const LoadedModel loaded = load_model(model, {.dtype = ComputeDtype::float32, .trainable = true});
  TrainingRows rows;
  rows.tokens.assign(tokens.begin(), tokens.end() - 1);
  rows.targets.assign(tokens.begin() + 1, tokens.end());
  rows.seq_start = {0, static_cast<int32_t>(rows.tokens.size())};
  const Batch batch = make_training_batch(*loaded.model, rows);
  const Tensor targets = Tensor::of<int32_t>({std::ssize(rows.targets)}, rows.targets.data());
  const Tensor got = linear_log_probabilities(loaded.model->hidden(batch), loaded.model->head(), targets);
  // The loss is their mean, with the other sign.
  double sum = 0.0;
  for (int64_t i = 0; i < got.elements(); ++i) sum -= static_cast<double>(got.host<float>()[i]);
  const Tensor mean = loss(*loaded.model, batch, targets);
  CHECK(static_cast<double>(mean.host<float>()[0]) ==
        Catch::Approx(sum / static_cast<double>(got.elements())).epsilon(1e-6));
  return {got.host<float>(), got.host<float>() + got.elements()};
}

// The largest difference of the log-probabilities of an answer's first `count` tokens. `grows`: rotary frequencies
// depend on the text's length, so each token that the engine adds has those of the text that it ends: that is what is
// trained.
double difference_in_answer(const std::string& model, const std::vector<int32_t>& prompt, const Completion& completion,
                            size_t count, bool grows = false) {
  std::vector<int32_t> text = prompt;
  text.insert(text.end(), completion.tokens.begin(), completion.tokens.end());
  std::vector<float> got;
  if (!grows) got = trained(model, text);
  double worst = 0.0;
  for (size_t i = 0; i < count; ++i) {
    const size_t last = prompt.size() + i;
    if (grows) got = trained(model, {text.begin(), text.begin() + static_cast<std::ptrdiff_t>(last) + 1});
    worst = std::max(worst, std::abs(static_cast<double>(got[last - 1]) -
                                     static_cast<double>(completion.logprobs[i].chosen.logprob)));
  }
  return worst;
}

// The same of a prompt, through the cache.
double difference_in_prompt(const std::string& model, const std::vector<int32_t>& tokens) {
  const LoadedModel loaded = load_model(model, {.dtype = ComputeDtype::float32});
  const std::vector<int32_t> context(tokens.begin(), tokens.end() - 1);
  const Tensor logits = all_logits(*loaded.model, context, loaded.cache_dtype);
  const RowLogsumexp row = row_logsumexp(logits, Tensor::of<int32_t>({logits.dim(0)}, tokens.data() + 1));
  const std::vector<float> got = trained(model, tokens);
  double worst = 0.0;
  for (int64_t i = 0; i < logits.dim(0); ++i) {
    const double want = static_cast<double>(row.target_logit.host<float>()[i]) - row.maximum.host<float>()[i] -
                        std::log(row.sum.host<double>()[i]);
    worst = std::max(worst, std::abs(static_cast<double>(got[static_cast<size_t>(i)]) - want));
  }
  return worst;
}

}  // namespace

// Logits of the order of 1, each a sum of some hundred products rounded to 6e-8: 1e-5 is the bound of tests/llm's
// comparison with transformers.
TEST_CASE("log-probabilities of the training forward are the engine's, for every family") {
  std::vector<int32_t> long_prompt;
  for (int32_t i = 0; i < 37; ++i) long_prompt.push_back((i * 23 + 5) % 61);
  const std::vector<int32_t> short_prompt(long_prompt.begin(), long_prompt.begin() + 8);
  constexpr size_t kAnswer = 8;
  for (const std::string& name : goldens()) {
    INFO(name);
    const std::string folder = golden_path(name);
    const bool is_dynamic = name.ends_with("dynamic");
    const bool grows = is_dynamic || name.ends_with("beyond_context") || name.ends_with("longrope");
    for (const std::vector<int32_t>& prompt : {short_prompt, long_prompt}) {
      const Completion completion = answer(folder, prompt, kAnswer);
      REQUIRE(completion.logprobs.size() == kAnswer);
      // Beyond the trained context dynamic scaling leaves cached keys as they were rotated (docs/architecture.md):
      // what no forward over the whole text makes of it.
      const size_t count = is_dynamic && prompt.size() > short_prompt.size() ? 1 : kAnswer;
      CHECK(difference_in_answer(folder, prompt, completion, count, grows) < 1e-5);
    }
    CHECK(difference_in_prompt(folder, long_prompt) < 1e-5);
  }
}

// 30 blocks and logits of up to 30: sums in other orders differ by some 1e-5 there.
TEST_CASE("log-probabilities of the training forward are the engine's on a published model") {
  const auto model = demo_model();
  if (!model) return skip("needs models/SmolLM2-135M-Instruct.Q4_1.gguf");
  const std::vector<int32_t> beginning = {504, 3575, 282, 4649, 314};
  std::vector<int32_t> prompt;
  for (int i = 0; i < 5; ++i) prompt.insert(prompt.end(), beginning.begin(), beginning.end());
  const Completion completion = answer(model->string(), prompt, 16);
  CHECK(difference_in_answer(model->string(), prompt, completion, 16) < 1e-4);
  CHECK(difference_in_prompt(model->string(), prompt) < 1e-4);
}
