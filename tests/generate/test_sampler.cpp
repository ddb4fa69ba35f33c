// Sampling against distributions and definitions worked out by hand.
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "generate/request_options.h"
#include "generate/sampler.h"
#include "tensor/errors.h"
#include "tests/catch.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<float> logs(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

Tensor row_of(const std::vector<float>& logits) { return Tensor::of<float>({1, std::ssize(logits)}, logits.data()); }

// The logits are as before afterwards.
int32_t sample(const std::vector<float>& logits, const SamplingParameters& p, uint64_t position = 0,
               const TokenHistory& history = {}) {
  const Tensor row = row_of(logits);
  const SamplingRow by{p, SampleKey{p.seed.value_or(7), 0, position}.random(), history.counts()};
  const int32_t token = *sample(row, {&by, 1}).data<int32_t>();
  CHECK(std::memcmp(row.raw(), logits.data(), row.bytes()) == 0);
  if (token == kNoToken) throw logits_error(row, position);
  return token;
}

// How often each token was drawn, over as many positions, some of them at once.
std::vector<int64_t> draws(const std::vector<float>& logits, const SamplingParameters& p, int64_t count = 20000) {
  std::vector<int64_t> counts(logits.size());
  constexpr int64_t kRows = 8;
  const Tensor rows = Tensor::empty({kRows, std::ssize(logits)});
  for (int64_t r = 0; r < kRows; ++r) std::copy(logits.begin(), logits.end(), rows.data<float>() + r * rows.dim(1));
  for (int64_t i = 0; i < count; i += kRows) {
    std::vector<SamplingRow> by;
    for (int64_t r = 0; r < kRows; ++r) by.push_back({p, SampleKey{11, 3, static_cast<uint64_t>(i + r)}.random(), {}});
    const Tensor tokens = sample(rows, by);
    for (int64_t r = 0; r < kRows; ++r) ++counts[static_cast<size_t>(tokens.data<int32_t>()[r])];
  }
  return counts;
}

// Whether the penalties make exactly `expected` of a token's logit: beside an unpenalised one it is chosen where they
// are equal, for its lower id, and not where the other is the next larger float.
bool is_penalised_to(float expected, const std::vector<float>& logits, size_t token, const SamplingParameters& p,
                     const TokenHistory& history) {
  std::vector<float> row(logits.size() + 1, -std::numeric_limits<float>::infinity());
  row[token] = logits[token];
  row.back() = expected;
  const bool reaches = sample(row, p, 0, history) == static_cast<int32_t>(token);
  row.back() = std::nextafter(expected, std::numeric_limits<float>::infinity());
  return reaches && sample(row, p, 0, history) == static_cast<int32_t>(logits.size());
}

// Pearson's statistic. With d degrees of freedom its mean is d and its variance 2 d: a fixed seed either passes or not,
// and d + 5 sqrt(2 d) would refuse one honest seed in more than ten thousand.
void check_distribution(const std::vector<int64_t>& counts, const std::vector<double>& expected) {
  double total = 0.0, weight = 0.0, statistic = 0.0;
  int degrees = -1;
  for (size_t i = 0; i < counts.size(); ++i) total += static_cast<double>(counts[i]), weight += expected[i];
  for (size_t i = 0; i < counts.size(); ++i) {
    const double mean = total * expected[i] / weight;
    INFO("token " << i);
    if (expected[i] == 0.0) {
      CHECK(counts[i] == 0);
    } else {
      statistic += (static_cast<double>(counts[i]) - mean) * (static_cast<double>(counts[i]) - mean) / mean;
      ++degrees;
    }
  }
  CHECK(statistic <= degrees + 5.0 * std::sqrt(2.0 * degrees));
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TokenLogprobs of_one_row(const Tensor& row, int32_t token, int64_t k) { return token_logprobs(row, {&token, 1}, k)[0]; }

}  // namespace

TEST_CASE("greedy takes the highest logit, the lowest id of equals") {
  CHECK(sample({0.0f, 3.0f, 3.0f, -1.0f}, {}) == 1);
  CHECK(sample({-5.0f}, {}) == 0);
  std::vector<float> row(1000, 0.0f);
  for (const size_t at : {0u, 15u, 16u, 500u, 992u, 999u}) {
    std::vector<float> one = row;
    one[at] = 1.0f;
    CHECK(sample(one, {}) == static_cast<int32_t>(at));
  }
  CHECK(sample({-kInfinity, -2.0f, -kInfinity}, {}) == 1);
}

TEST_CASE("draws follow the softmax") {
  const std::vector<double> p = {0.05, 0.4, 0.1, 0.25, 0.2};
  check_distribution(draws(logs(p), {.temperature = 1.0}), p);
  check_distribution(draws(std::vector<float>(50, 2.5f), {.temperature = 1.0}), std::vector<double>(50, 1.0));
  std::vector<double> squares;
  for (const double x : p) squares.push_back(x * x);
  check_distribution(draws(logs(p), {.temperature = 0.5}), squares);
}

TEST_CASE("temperature near zero is greedy, and a huge one is uniform") {
  const std::vector<float> logits = {1.0f, 1.5f, 1.4999f, -3.0f};
  for (const double t : {1e-6, 1e-300, 5e-324})
    for (uint64_t i = 0; i < 50; ++i) CHECK(sample(logits, {.temperature = t}, i) == 1);
  check_distribution(draws(logits, {.temperature = 1e300}), {1, 1, 1, 1});
}

TEST_CASE("top_k keeps exactly k, ties to the lowest ids") {
  const std::vector<double> p = {0.1, 0.3, 0.1, 0.4, 0.1};
  check_distribution(draws(logs(p), {.temperature = 1.0, .top_k = 2}), {0, 3, 0, 4, 0});
  check_distribution(draws(logs(p), {.temperature = 1.0, .top_k = 4}), {1, 3, 1, 4, 0});
  check_distribution(draws(logs(p), {.temperature = 1.0, .top_k = 99}), p);
  for (uint64_t i = 0; i < 50; ++i) CHECK(sample(logs(p), {.temperature = 5.0, .top_k = 1}, i) == 3);
}

TEST_CASE("top_p includes the token that crosses it, and keeps at least one") {
  const std::vector<double> p = {0.2, 0.5, 0.3};
  check_distribution(draws(logs(p), {.temperature = 1.0, .top_p = 0.49}), {0, 1, 0});
  check_distribution(draws(logs(p), {.temperature = 1.0, .top_p = 0.51}), {0, 5, 3});
  check_distribution(draws(logs(p), {.temperature = 1.0, .top_p = 0.81}), p);
  check_distribution(draws(logs(p), {.temperature = 1.0, .top_p = 0.0}), {0, 1, 0});
  // Probabilities are those of what top_k left: 5/8 and 3/8 here, so that 0.6 is reached by the first.
  check_distribution(draws(logs(p), {.temperature = 1.0, .top_k = 2, .top_p = 0.6}), {0, 1, 0});
}

TEST_CASE("top_p sorts as far as it must") {
  // 1,000 equal tokens: half of the probability is the first 500, in order of their ids.
  const std::vector<int64_t> counts =
      draws(std::vector<float>(1000, 0.0f), {.temperature = 1.0, .top_p = 0.4995}, 20000);
  std::vector<double> expected(1000, 0.0);
  std::fill(expected.begin(), expected.begin() + 500, 1.0);
  check_distribution(counts, expected);
}

TEST_CASE("min_p is relative to the most probable token") {
  const std::vector<double> p = {0.2, 0.5, 0.24, 0.06};
  check_distribution(draws(logs(p), {.temperature = 1.0, .min_p = 0.45}), {0, 50, 24, 0});
  check_distribution(draws(logs(p), {.temperature = 1.0, .min_p = 0.1}), p);
  check_distribution(draws(logs(p), {.temperature = 1.0, .min_p = 1.0}), {0, 1, 0, 0});
}

TEST_CASE("penalties follow their definitions") {
  TokenHistory history;
  history.add_prompt(std::vector<int32_t>{0, 1});
  history.add_generated(std::vector<int32_t>{1, 2, 2});
  const std::vector<float> logits = {2.0f, -2.0f, 4.0f, 1.0f};
  const auto check_all = [&](const SamplingParameters& p, const std::vector<float>& expected) {
    for (size_t token = 0; token < logits.size(); ++token) {
      INFO("token " << token);
      CHECK(is_penalised_to(expected[token], logits, token, p, history));
    }
  };
  check_all({.repetition_penalty = 2.0}, {1.0f, -4.0f, 2.0f, 1.0f});
  check_all({.presence_penalty = 0.5}, {2.0f, -2.5f, 3.5f, 1.0f});  // not for what the prompt alone holds
  check_all({.frequency_penalty = 0.5}, {2.0f, -2.5f, 3.0f, 1.0f});
  check_all({.repetition_penalty = 2.0, .presence_penalty = 0.5, .frequency_penalty = 0.25},
            {1.0f, -4.75f, 1.0f, 1.0f});

  CHECK(sample({2.0f, 0.0f, 3.0f, 2.5f, 0.0f}, {.repetition_penalty = 2.0}, 0, history) == 3);
  CHECK(sample({-kInfinity, -9.0f, -kInfinity}, {.presence_penalty = -1e9}, 0, history) == 1);  // forbidden stays so
}

TEST_CASE("penalties never make a logit infinite") {
  TokenHistory history;
  history.add_prompt(std::vector<int32_t>{0, 1});
  CHECK(sample({3.0f, -1.0f, 2.0f}, {.repetition_penalty = 1e-300}, 0, history) == 0);
  CHECK(sample({3.0f, -1.0f, 2.0f}, {.repetition_penalty = 1e300}, 0, history) == 2);
}

TEST_CASE(
    "only tokens that are allowed are chosen, biases move logits ahead of penalties, and neither is left behind") {
  const std::vector<float> logits = logs({0.4, 0.3, 0.2, 0.1});
  const Tensor row = row_of(logits);
  const auto chosen = [&](SamplingParameters p, std::vector<TokenCount> history, uint32_t bits) {
    const SamplingRow by{p, 0.5, history, {&bits, 1}};
    const int32_t token = *sample(row, {&by, 1}).data<int32_t>();
    CHECK(std::memcmp(row.raw(), logits.data(), row.bytes()) == 0);
    return token;
  };
  SamplingParameters greedy, drawn, penalised;
  drawn.temperature = 1.0;
  drawn.top_k = 2;
  penalised.repetition_penalty = 1e6;
  CHECK(chosen(greedy, {}, 0b1110) == 1);
  CHECK(chosen(drawn, {}, 0b1000) == 3);
  CHECK(chosen(drawn, {}, 0b0110) == 1);  // 0.3 of 0.5 is beyond the draw's half
  CHECK(chosen(greedy, {}, 0) == kNoToken);
  CHECK(chosen(greedy, {{2, TokenCount::kUnseen, 3.0f}}, 0b1111) == 2);
  CHECK(chosen(greedy, {{2, TokenCount::kUnseen, 3.0f}}, 0b1011) == 0);
  // A bias makes the logit positive, which the penalty then divides: to 0 and not far below.
  CHECK(chosen(penalised, {{2, 1, 3.0f}}, 0b1111) == 2);
  CHECK(chosen(penalised, {{2, TokenCount::kUnseen, 0.1f}}, 0b1111) == 0);
  TokenHistory history;
  history.add_bias(std::vector<std::pair<int32_t, float>>{{5, 1.0f}, {6, 2.0f}, {6, 1.0f}, {7, 4.0f}});
  history.add_prompt(std::vector<int32_t>{5, 8});
  history.add_generated(std::vector<int32_t>{7, 7});
  const auto is = [&](size_t place, int32_t of, int64_t count, float bias) {
    const TokenCount& c = history.counts()[place];
    return c.token == of && c.count == count && c.bias == bias;
  };
  REQUIRE(history.counts().size() == 4);
  CHECK((is(0, 5, 0, 1.0f) && is(1, 6, TokenCount::kUnseen, 3.0f) && is(2, 7, 2, 4.0f) && is(3, 8, 0, 0.0f)));
}

TEST_CASE("log-probabilities are the model's own, the same float in both places") {
  TokenHistory history;
  history.add_prompt(std::vector<int32_t>{1});
  const std::vector<double> p = {0.2, 0.5, 0.3};
  const SamplingParameters parameters{.temperature = 0.1, .top_k = 1, .repetition_penalty = 100.0};
  const int32_t token = sample(logs(p), parameters, 0, history);
  CHECK(token != 1);
  const TokenLogprobs l = of_one_row(row_of(logs(p)), token, 2);
  CHECK(l.chosen.token == token);
  CHECK(l.chosen.logprob == Catch::Approx(std::log(p[static_cast<size_t>(token)])).epsilon(1e-6));
  REQUIRE(l.top.size() == 2);
  CHECK(l.top[0].token == 1);
  CHECK(l.top[1].token == 2);
  CHECK(l.top[0].logprob == Catch::Approx(std::log(0.5)).epsilon(1e-6));

  const TokenLogprobs greedy = of_one_row(row_of(logs(p)), 1, 5);
  CHECK(greedy.top.size() == 3);
  CHECK(greedy.top[0].logprob == greedy.chosen.logprob);
  CHECK(of_one_row(row_of(logs(p)), 1, 0).top.empty());
  CHECK(of_one_row(row_of(std::vector<float>(40, 1.0f)), 0, 3).top[2].token == 2);
}

TEST_CASE("a draw depends on seed, sequence and position, and on nothing else") {
  const Tensor row = row_of(std::vector<float>(64, 0.0f));
  const auto token = [&](SampleKey key) {
    const SamplingRow by{{.temperature = 1.0}, key.random(), {}};
    return *sample(row, {&by, 1}).data<int32_t>();
  };
  const auto text = [&](uint64_t seed, uint64_t sequence) {
    std::vector<int32_t> tokens;
    for (uint64_t i = 0; i < 40; ++i) tokens.push_back(token({seed, sequence, i}));
    return tokens;
  };
  CHECK(text(1, 0) == text(1, 0));
  CHECK(text(1, 0) != text(2, 0));
  CHECK(text(1, 0) != text(1, 1));
  CHECK(text(2, 0) != text(1, 1));
  std::set<uint64_t> seeds;
  for (int i = 0; i < 8; ++i) seeds.insert(random_seed());
  CHECK(seeds.size() == 8);
}

TEST_CASE("logits that are no numbers are an error that names position and token") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const double t : {0.0, 1.0}) {
    CHECK_THROWS_WITH(sample({0.0f, nan, 1.0f}, {.temperature = t}, 41),
                      ContainsSubstring("position 41") && ContainsSubstring("token 1"));
    std::vector<float> long_row(100, 0.0f);
    long_row[37] = nan;
    CHECK_THROWS_WITH(sample(long_row, {.temperature = t}), ContainsSubstring("token 37 is nan"));
    CHECK_THROWS_WITH(sample({0.0f, kInfinity}, {.temperature = t}), ContainsSubstring("token 1 is inf"));
    CHECK_THROWS_WITH(sample({-kInfinity, -kInfinity}, {.temperature = t}),
                      ContainsSubstring("no token may be chosen"));
  }
}

TEST_CASE("sampling parameters out of range are named") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const auto refused = [](const SamplingParameters& p, const char* field) {
    CHECK_THROWS_WITH(validate(p), ContainsSubstring(field));
  };
  CHECK_NOTHROW(validate(SamplingParameters{}));
  refused({.temperature = -0.1}, "temperature");
  refused({.temperature = nan}, "temperature");
  refused({.temperature = infinity}, "temperature");
  refused({.top_k = -1}, "top_k");
  refused({.top_p = 1.1}, "top_p");
  refused({.min_p = -0.1}, "min_p");
  refused({.repetition_penalty = 0.0}, "repetition_penalty");
  refused({.presence_penalty = nan}, "presence_penalty");
  refused({.frequency_penalty = infinity}, "frequency_penalty");
}
