// Perplexity and divergence on tiny random models, against sums over all_logits.
#include <cmath>
#include <numeric>

#include "evaluate/perplexity.h"
#include "generate/sequence_cache.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/evaluate/tiny_llama.h"

using namespace lathe;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;

namespace {

// Negative log-likelihoods of the counted tokens of one window, each from the whole window's logits, in double.
std::vector<double> window_losses(const CausalLM& model, std::vector<int32_t> ids, const TextWindow& w,
                                  std::optional<int32_t> bos) {
  std::vector<int32_t> window(ids.begin() + w.begin, ids.begin() + w.end);
  if (bos) window.front() = *bos;
  const Tensor logits = all_logits(model, window, DType::f32);  // (N, V)
  std::vector<double> losses;
  for (int64_t at = w.first_counted; at < w.end; ++at) {
    const float* row = logits.data<float>() + (at - 1 - w.begin) * logits.dim(1);
    double sum = 0.0;
    for (int64_t v = 0; v < logits.dim(1); ++v) sum += std::exp(static_cast<double>(row[v]));
    losses.push_back(std::log(sum) - static_cast<double>(row[ids[static_cast<size_t>(at)]]));
  }
  return losses;
}

void check_against_all_logits(const PerplexityOptions& options, int64_t tokens, int64_t expected_count) {
  const auto model = test::tiny_llama(1);
  const std::vector<int32_t> ids = test::some_ids(tokens);
  std::vector<double> losses;
  const std::vector<TextWindow> windows = text_windows(tokens, options);
  for (const TextWindow& w : windows)
    for (const double loss : window_losses(*model, ids, w, options.bos)) losses.push_back(loss);
  const double n = static_cast<double>(losses.size());
  const double mean = std::accumulate(losses.begin(), losses.end(), 0.0) / n;
  double squares = 0.0;
  for (const double loss : losses) squares += (loss - mean) * (loss - mean);

  const PerplexityReport report = measure_perplexity({model.get(), DType::f32}, {}, ids, options);
  CHECK(report.tokens_counted == expected_count);
  CHECK(report.windows == std::ssize(windows));
  CHECK(report.windows_in_text == std::ssize(windows));
  CHECK(report.perplexity.value == Approx(std::exp(mean)).epsilon(1e-6));
  CHECK(report.negative_log_likelihood.standard_error == Approx(std::sqrt(squares / (n - 1) / n)).epsilon(1e-6));
  CHECK(report.perplexity.standard_error ==
        Approx(report.perplexity.value * report.negative_log_likelihood.standard_error));
  CHECK_FALSE(report.comparison);
}

PerplexityOptions windows_of(int64_t context, int64_t stride) {
  PerplexityOptions options;
  options.context = context;
  options.stride = stride;
  return options;
}

}  // namespace

TEST_CASE("perplexity is exp of the mean loss that all_logits gives, window by window") {
  check_against_all_logits(windows_of(16, 16), 64, 4 * 15);
  check_against_all_logits(windows_of(16, 16), 70, 4 * 15 + 5);  // the last window is shorter
  check_against_all_logits(windows_of(16, 16), 65, 4 * 15);      // one token is left over: nothing predicts it
  check_against_all_logits(windows_of(16, 16), 66, 4 * 15 + 1);
  check_against_all_logits(windows_of(700, 700), 1300, 699 + 599);  // more than one pass a window
  check_against_all_logits(windows_of(2, 2), 7, 3);
}

TEST_CASE("with a stride every token but the first is counted once, with the context before it") {
  check_against_all_logits(windows_of(16, 8), 64, 63);
  check_against_all_logits(windows_of(16, 5), 61, 60);
  check_against_all_logits(windows_of(16, 1), 40, 39);
  check_against_all_logits(windows_of(600, 100), 900, 899);
}

TEST_CASE("a window longer than the text is the text") {
  check_against_all_logits(windows_of(512, 512), 40, 39);
  const auto model = test::tiny_llama(1);
  const auto report = measure_perplexity({model.get(), DType::f32}, {}, test::some_ids(2), windows_of(512, 100));
  CHECK(report.tokens_counted == 1);
  CHECK(std::isnan(report.perplexity.standard_error));  // one token has no deviation
}

TEST_CASE("llama.cpp's protocol counts the second half of whole windows, BOS before each") {
  PerplexityOptions options = windows_of(16, 16);
  options.protocol = PerplexityProtocol::llama_cpp;
  check_against_all_logits(options, 70, 4 * 7);
  options.bos = 3;
  check_against_all_logits(options, 64, 4 * 7);
  options.context = options.stride = 9;  // an odd window: 9 / 2 = 4 tokens uncounted, and one that predicts
  check_against_all_logits(options, 20, 2 * 4);
}

TEST_CASE("a limit takes the first windows, and Ctrl-C keeps what there is") {
  const auto model = test::tiny_llama(1);
  const std::vector<int32_t> ids = test::some_ids(3000);
  PerplexityOptions options = windows_of(256, 256);
  options.limit = 3;
  const PerplexityReport limited = measure_perplexity({model.get(), DType::f32}, {}, ids, options);
  CHECK(limited.windows == 3);
  CHECK(limited.windows_in_text == 12);
  CHECK(limited.tokens_counted == 3 * 255);
  CHECK_FALSE(limited.interrupted);
  CHECK(measure_perplexity({model.get(), DType::f32}, {}, std::span(ids).first(3 * 256), windows_of(256, 256))
            .perplexity.value == limited.perplexity.value);

  options.limit = 0;
  const PerplexityReport interrupted = measure_perplexity({model.get(), DType::f32}, {}, ids, options,
                                                          [](const PerplexityReport& r) { return r.windows < 4; });
  CHECK(interrupted.interrupted);
  CHECK(interrupted.windows == 4);
  CHECK(interrupted.tokens_counted == 4 * 255);
}

TEST_CASE("a model's divergence from itself is exactly 0, from another it is the sum over the vocabulary") {
  const auto model = test::tiny_llama(1), other = test::tiny_llama(2);
  const std::vector<int32_t> ids = test::some_ids(40);
  const PerplexityOptions options = windows_of(40, 40);
  const ScoredModel scored{model.get(), DType::f32}, reference{other.get(), DType::f32};

  const auto same = measure_perplexity(scored, scored, ids, options);
  REQUIRE(same.comparison);
  CHECK(same.comparison->divergence.value == 0.0);
  CHECK(same.comparison->maximum == 0.0);
  CHECK(same.comparison->same_top.value == 1.0);
  CHECK(same.comparison->perplexity.value == same.perplexity.value);

  const auto report = measure_perplexity(scored, reference, ids, options);
  REQUIRE(report.comparison);
  const Tensor a = all_logits(*model, ids, DType::f32), b = all_logits(*other, ids, DType::f32);
  const int64_t vocabulary = a.dim(1);
  std::vector<double> divergences;
  double same_top = 0.0;
  for (int64_t row = 0; row < 39; ++row) {
    const float *p = a.data<float>() + row * vocabulary, *q = b.data<float>() + row * vocabulary;
    double sum_p = 0.0, sum_q = 0.0, divergence = 0.0;
    for (int64_t v = 0; v < vocabulary; ++v)
      sum_p += std::exp(static_cast<double>(p[v])), sum_q += std::exp(static_cast<double>(q[v]));
    for (int64_t v = 0; v < vocabulary; ++v)
      divergence += std::exp(static_cast<double>(q[v])) / sum_q *
                    (static_cast<double>(q[v]) - std::log(sum_q) - static_cast<double>(p[v]) + std::log(sum_p));
    divergences.push_back(divergence);
    same_top += std::max_element(p, p + vocabulary) - p == std::max_element(q, q + vocabulary) - q ? 1.0 : 0.0;
  }
  std::sort(divergences.begin(), divergences.end());
  CHECK(report.comparison->divergence.value ==
        Approx(std::accumulate(divergences.begin(), divergences.end(), 0.0) / 39).epsilon(1e-5));
  CHECK(report.comparison->median == Approx(divergences[19]).epsilon(1e-5));
  CHECK(report.comparison->maximum == Approx(divergences.back()).epsilon(1e-5));
  CHECK(report.comparison->percentile_90 == Approx(divergences[34] * 0.8 + divergences[35] * 0.2).epsilon(1e-5));
  CHECK(report.comparison->same_top.value == Approx(same_top / 39));
  CHECK(report.comparison->perplexity.value == measure_perplexity(reference, {}, ids, options).perplexity.value);
  CHECK(report.perplexity.value == same.perplexity.value);
}

TEST_CASE("what cannot be measured is refused by name") {
  const auto model = test::tiny_llama(1), wider = test::tiny_llama(1, 99);
  const ScoredModel scored{model.get(), DType::f32};
  const auto measure = [&](const std::vector<int32_t>& ids, const PerplexityOptions& options) {
    return measure_perplexity(scored, {}, ids, options);
  };
  CHECK_THROWS_WITH(measure({}, {}), ContainsSubstring("0 tokens, at least 2"));
  CHECK_THROWS_WITH(measure({5}, {}), ContainsSubstring("1 token, at least 2"));
  CHECK_THROWS_WITH(measure({5, 97}, {}), ContainsSubstring("id 97 at position 1"));
  CHECK_THROWS_AS(measure({5, 6}, windows_of(1, 1)), UsageError);
  CHECK_THROWS_AS(measure({5, 6}, windows_of(8, 9)), UsageError);
  PerplexityOptions llama_cpp = windows_of(16, 16);
  llama_cpp.protocol = PerplexityProtocol::llama_cpp;
  CHECK_THROWS_WITH(measure(test::some_ids(15), llama_cpp), ContainsSubstring("whole windows of 16"));
  llama_cpp.stride = 8;
  CHECK_THROWS_AS(measure(test::some_ids(64), llama_cpp), UsageError);
  CHECK_THROWS_WITH(measure_perplexity(scored, ScoredModel{wider.get(), DType::f32}, test::some_ids(9), {}),
                    ContainsSubstring("vocabularies of 97 and 99"));
}
