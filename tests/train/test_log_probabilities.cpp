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

std::vector<std::string> golden_folders() {
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(source_dir() / "tests" / "goldens"))
    if (std::filesystem::exists(entry.path() / "config.json")) folders.push_back(entry.path().string());
  std::sort(folders.begin(), folders.end());
  return folders;
}

// The engine's greedy answer and the log-probability of each of its tokens.
Completion answer(const std::string& model, const std::vector<int32_t>& prompt, int64_t tokens) {
  const LoadedModel loaded = load_model(model, {.dtype = ComputeDtype::float32});
  Engine engine(*loaded.model, nullptr, {.cache_dtype = loaded.cache_dtype});
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

double difference_in_answer(const std::string& model, const std::vector<int32_t>& prompt,
                            const Completion& completion) {
  std::vector<int32_t> text = prompt;
  text.insert(text.end(), completion.tokens.begin(), completion.tokens.end());
  const std::vector<float> got = trained(model, text);
  double worst = 0.0;
  for (size_t i = 0; i < completion.tokens.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(got[prompt.size() - 1 + i]) -
                                     static_cast<double>(completion.logprobs[i].chosen.logprob)));
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
  const std::vector<int32_t> prompt = {1, 5, 40, 22, 3, 17, 9, 33};
  std::vector<int32_t> long_prompt;
  for (int32_t i = 0; i < 37; ++i) long_prompt.push_back((i * 23 + 5) % 61);
  for (const std::string& folder : golden_folders()) {
    INFO(folder);
    const Completion completion = answer(folder, prompt, 12);
    REQUIRE(completion.logprobs.size() == 12);
    CHECK(difference_in_prompt(folder, long_prompt) < 1e-5);
    // Where rotary frequencies depend on the text's length, they are other ones for each token that the engine adds.
    const auto grows = [&](const char* with) { return folder.ends_with(with); };
    if (grows("dynamic") || grows("beyond_context") || grows("longrope")) continue;
    CHECK(difference_in_answer(folder, prompt, completion) < 1e-5);
  }
}

// 30 blocks and logits of up to 30.
TEST_CASE("log-probabilities of the training forward are the engine's on a published model") {
  const auto model = demo_model();
  if (!model) return skip("needs models/SmolLM2-135M-Instruct.Q4_1.gguf");
  const std::vector<int32_t> prompt = {504, 3575, 282, 4649, 314};
  const Completion completion = answer(model->string(), prompt, 16);
  CHECK(difference_in_answer(model->string(), prompt, completion) < 1e-4);
}
