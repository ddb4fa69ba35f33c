#include "generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "tensor/errors.h"
#include "tensor/random.h"

namespace lathe {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kMostFloat = static_cast<double>(std::numeric_limits<float>::max());
// A token whose weight relative to the best one is below exp(-50) = 2e-22 is left out: half a million of them together
// weigh less than one rounding of the sum.
constexpr double kNegligible = 50.0;
// Candidates sorted at first by top_p; four times as many until they reach the probability that was asked for.
constexpr size_t kFirstSorted = 64;

constexpr size_t kLanes = 16;

// The highest logit. Throws where one is NaN or +inf, or all are -inf. Lanes, so that compilers use vector registers.
float highest_logit(std::span<const float> logits, uint64_t position) {
  float highest[kLanes];
  uint32_t is_nan[kLanes] = {};
  std::fill(highest, highest + kLanes, -kInfinity);
  const auto take = [&](float x, size_t lane) {
    highest[lane] = x > highest[lane] ? x : highest[lane];
    is_nan[lane] |= x != x;
  };
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) take(logits[i + lane], lane);
  for (; i < logits.size(); ++i) take(logits[i], 0);

  const float best = *std::max_element(highest, highest + kLanes);
  const bool any_nan = std::any_of(is_nan, is_nan + kLanes, [](uint32_t bit) { return bit != 0; });
  if (any_nan || best == kInfinity) {
    const auto bad = std::find_if(logits.begin(), logits.end(), [](float x) { return x != x || x == kInfinity; });
    throw Error(
        fmt::format("sampler: at position {} the logit of token {} is {}", position, bad - logits.begin(), *bad),
        "the model's activations overflow or its weights are damaged: lathe trace shows where");
  }
  check(best > -kInfinity, "sampler", "at position {} no token may be chosen: all logits are -inf", position);
  return best;
}

int32_t first_of(std::span<const float> logits, float value) {
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), value) - logits.begin());
}

double weight(float logit, float highest, double temperature) {
  return std::exp((static_cast<double>(logit) - static_cast<double>(highest)) / temperature);
}

// log of the sum of exp(logit).
double log_normaliser(std::span<const float> logits, float highest) {
  double sum = 0.0;
  for (const float x : logits)
    if (static_cast<double>(highest) - static_cast<double>(x) < kNegligible) sum += weight(x, highest, 1.0);
  return static_cast<double>(highest) + std::log(sum);
}

void check_range(const char* field, double value, double low, double high) {
  check(value >= low && value <= high, "sampling", "{} must be in [{}, {}], found {}", field, low, high, value);
}

}  // namespace

SamplingParameters SamplingChoices::over(SamplingParameters s) const {
  s.temperature = greedy ? 0.0 : temperature.value_or(s.temperature);
  s.top_k = top_k.value_or(s.top_k);
  s.top_p = top_p.value_or(s.top_p);
  s.min_p = min_p.value_or(s.min_p);
  s.repetition_penalty = repetition_penalty.value_or(greedy ? 1.0 : s.repetition_penalty);
  s.presence_penalty = presence_penalty.value_or(s.presence_penalty);
  s.frequency_penalty = frequency_penalty.value_or(s.frequency_penalty);
  s.seed = seed;
  return s;
}

void validate(const SamplingParameters& p) {
  constexpr double kMost = std::numeric_limits<double>::max();
  check_range("temperature", p.temperature, 0.0, kMost);
  check(p.top_k >= 0, "sampling", "top_k must be at least 0 (0: all tokens), found {}", p.top_k);
  check_range("top_p", p.top_p, 0.0, 1.0);
  check_range("min_p", p.min_p, 0.0, 1.0);
  check(p.repetition_penalty > 0.0 && p.repetition_penalty <= kMost, "sampling",
        "repetition_penalty must be above 0, found {}", p.repetition_penalty);
  check(std::isfinite(p.presence_penalty), "sampling", "presence_penalty must be finite, found {}", p.presence_penalty);
  check(std::isfinite(p.frequency_penalty), "sampling", "frequency_penalty must be finite, found {}",
        p.frequency_penalty);
}

uint64_t random_seed() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

void TokenHistory::add_prompt(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) occurrences_.try_emplace(token, 0);
}

void TokenHistory::add_generated(int32_t token) { ++occurrences_[token]; }

void TokenHistory::penalise(std::span<float> logits, const SamplingParameters& p) const {
  if (!p.penalises()) return;
  for (const auto& [token, count] : occurrences_) {
    float& logit = logits[static_cast<size_t>(token)];
    if (logit == -kInfinity) continue;
    double x = static_cast<double>(logit);
    x = x > 0.0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    if (count > 0) x -= p.presence_penalty + p.frequency_penalty * static_cast<double>(count);
    logit = static_cast<float>(std::clamp(x, -kMostFloat, kMostFloat));
  }
}

bool Sampler::before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

SampledToken Sampler::sample(std::span<float> logits, const SamplingParameters& p, const TokenHistory& history,
                             const SampleKey& key, std::optional<int64_t> alternatives) {
  check(!logits.empty(), "sampler", "no logits");
  float highest = highest_logit(logits, key.position);
  std::span<const float> unpenalised = logits;
  double normaliser = 0.0;
  if (alternatives) normaliser = log_normaliser(logits, highest);
  if (p.penalises()) {
    if (alternatives) {
      unpenalised_.assign(logits.begin(), logits.end());
      unpenalised = unpenalised_;
    }
    history.penalise(logits, p);
    highest = highest_logit(logits, key.position);
  }

  SampledToken result;
  result.token = p.temperature == 0.0 ? first_of(logits, highest) : draw(logits, highest, p, key);
  if (alternatives) {
    const auto logprob = [&](int32_t token) {
      const double logit = static_cast<double>(unpenalised[static_cast<size_t>(token)]);
      return TokenLogprob{token, static_cast<float>(logit - normaliser)};
    };
    TokenLogprobs& logprobs = result.logprobs.emplace();
    logprobs.chosen = logprob(result.token);
    take_top(unpenalised, *alternatives);
    for (const Candidate& c : candidates_) logprobs.top.push_back(logprob(c.token));
  }
  return result;
}

// The k highest, in order. A heap with the worst of them on top: most tokens cost one comparison.
void Sampler::take_top(std::span<const float> logits, int64_t k) {
  const auto count = static_cast<size_t>(std::clamp<int64_t>(k, 0, std::ssize(logits)));
  candidates_.clear();
  for (size_t i = 0; i < logits.size() && count > 0; ++i) {
    const Candidate candidate{logits[i], static_cast<int32_t>(i)};
    if (candidates_.size() == count) {
      if (!before(candidate, candidates_.front())) continue;
      std::pop_heap(candidates_.begin(), candidates_.end(), before);
      candidates_.pop_back();
    }
    candidates_.push_back(candidate);
    std::push_heap(candidates_.begin(), candidates_.end(), before);
  }
  std::sort_heap(candidates_.begin(), candidates_.end(), before);
}

// All tokens that can matter, by id.
void Sampler::take_weighty(std::span<const float> logits, float highest, double temperature) {
  const double span = kNegligible * temperature;
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (static_cast<double>(highest) - static_cast<double>(logits[i]) <= span)
      candidates_.push_back({logits[i], static_cast<int32_t>(i)});
}

void Sampler::keep_top_p(double top_p, float highest, double temperature) {
  double total = 0.0, reached = 0.0;
  for (const Candidate& c : candidates_) total += weight(c.logit, highest, temperature);
  size_t kept = 0, sorted = 0;
  while (kept < candidates_.size()) {
    if (kept == sorted) {
      sorted = std::min(candidates_.size(), std::max(kFirstSorted, 4 * sorted));
      const auto at = [&](size_t i) { return candidates_.begin() + static_cast<std::ptrdiff_t>(i); };
      std::nth_element(at(kept), at(sorted), candidates_.end(), before);
      std::sort(at(kept), at(sorted), before);
    }
    reached += weight(candidates_[kept++].logit, highest, temperature);
    if (reached >= top_p * total) break;
  }
  candidates_.resize(kept);
}

int32_t Sampler::draw(std::span<const float> logits, float highest, const SamplingParameters& p, const SampleKey& key) {
  if (p.top_k > 0 && p.top_k < std::ssize(logits))
    take_top(logits, p.top_k);
  else
    take_weighty(logits, highest, p.temperature);
  if (p.top_p < 1.0) keep_top_p(p.top_p, highest, p.temperature);

  weights_.clear();
  double total = 0.0;
  for (const Candidate& c : candidates_) {
    const double w = weight(c.logit, highest, p.temperature);  // the best token's is 1
    weights_.push_back(w >= p.min_p ? w : 0.0);
    total += weights_.back();
  }
  const double target = random_uniform(key.seed, key.sequence, key.position) * total;
  double reached = 0.0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    reached += weights_[i];
    if (reached > target) return candidates_[i].token;
  }
  return first_of(logits, highest);  // not reached: target < total, which is the last sum
}

}  // namespace lathe
