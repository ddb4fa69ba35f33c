// Sampling on the thread team: a row belongs to one thread.
#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kMostFloat = static_cast<double>(std::numeric_limits<float>::max());
// A token whose weight relative to the best one is below exp(-50) = 2e-22 is left out: half a million of them together
// weigh less than one rounding of the sum.
constexpr double kNegligible = 50.0;
// Candidates sorted at first by top_p; four times as many until they reach the probability that was asked for.
constexpr size_t kFirstSorted = 64;
constexpr size_t kLanes = 16;

// The highest logit; NaN where one is NaN or +inf, or all are -inf. Lanes, so that compilers use vector registers.
float highest_logit(std::span<const float> logits) {
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
  return any_nan || std::isinf(best) ? std::numeric_limits<float>::quiet_NaN() : best;
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

// The logits of a history with bias and penalties, for as long as this lives.
class Penalised {
 public:
  Penalised(std::span<float> logits, const SamplingRow& row) : logits_(logits), row_(row) {
    for (const TokenCount& seen : row.history) {
      float& logit = logits[static_cast<size_t>(seen.token)];
      before_.push_back(logit);
      if (logit != -kInfinity) logit = penalised(logit + seen.bias, seen.count);
    }
  }
  ~Penalised() {
    for (size_t i = 0; i < before_.size(); ++i) logits_[static_cast<size_t>(row_.history[i].token)] = before_[i];
  }
  Penalised(const Penalised&) = delete;
  Penalised& operator=(const Penalised&) = delete;

 private:
  float penalised(float logit, int64_t count) const {
    const SamplingParameters& p = row_.parameters;
    if (count == TokenCount::kUnseen) return logit;
    double x = static_cast<double>(logit);
    x = x > 0.0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    if (count > 0) x -= p.presence_penalty + p.frequency_penalty * static_cast<double>(count);
    return static_cast<float>(std::clamp(x, -kMostFloat, kMostFloat));
  }

  std::span<float> logits_;
  const SamplingRow& row_;
  std::vector<float> before_;
};

struct Candidate {
  float logit;
  int32_t token;
  bool operator<(const Candidate& other) const {  // the more probable first
    return logit > other.logit || (logit == other.logit && token < other.token);
  }
};

// The tokens of one row that may still be chosen. Its memory is kept from row to row.
class Candidates {
 public:
  // The k highest, in order. A heap with the worst of them on top: most tokens cost one comparison.
  void take_top(std::span<const float> logits, int64_t k) {
    const auto count = static_cast<size_t>(std::clamp<int64_t>(k, 0, std::ssize(logits)));
    kept_.clear();
    for (size_t i = 0; i < logits.size() && count > 0; ++i) {
      const Candidate candidate{logits[i], static_cast<int32_t>(i)};
      if (kept_.size() == count) {
        if (!(candidate < kept_.front())) continue;
        std::pop_heap(kept_.begin(), kept_.end());
        kept_.pop_back();
      }
      kept_.push_back(candidate);
      std::push_heap(kept_.begin(), kept_.end());
    }
    std::sort_heap(kept_.begin(), kept_.end());
  }

  int32_t draw(std::span<const float> logits, float highest, const SamplingRow& row) {
    const SamplingParameters& p = row.parameters;
    if (p.top_k > 0 && p.top_k < std::ssize(logits))
      take_top(logits, p.top_k);
    else
      take_weighty(logits, highest, p.temperature);
    if (p.top_p < 1.0) keep_top_p(p.top_p, highest, p.temperature);

    weights_.clear();
    double total = 0.0;
    for (const Candidate& c : kept_) {
      const double w = weight(c.logit, highest, p.temperature);  // the best token's is 1
      weights_.push_back(w >= p.min_p ? w : 0.0);
      total += weights_.back();
    }
    const double target = row.random * total;
    double reached = 0.0;
    for (size_t i = 0; i < weights_.size(); ++i) {
      reached += weights_[i];
      if (reached > target) return kept_[i].token;
    }
    return first_of(logits, highest);  // not reached: target < total, which is the last sum
  }

  const std::vector<Candidate>& kept() const { return kept_; }

 private:
  // All tokens that can matter, by id.
  void take_weighty(std::span<const float> logits, float highest, double temperature) {
    const double span = kNegligible * temperature;
    kept_.clear();
    for (size_t i = 0; i < logits.size(); ++i)
      if (static_cast<double>(highest) - static_cast<double>(logits[i]) <= span)
        kept_.push_back({logits[i], static_cast<int32_t>(i)});
  }

  void keep_top_p(double top_p, float highest, double temperature) {
    double total = 0.0, reached = 0.0;
    for (const Candidate& c : kept_) total += weight(c.logit, highest, temperature);
    size_t count = 0, sorted = 0;
    while (count < kept_.size()) {
      if (count == sorted) {
        sorted = std::min(kept_.size(), std::max(kFirstSorted, 4 * sorted));
        const auto at = [&](size_t i) { return kept_.begin() + static_cast<std::ptrdiff_t>(i); };
        std::nth_element(at(count), at(sorted), kept_.end());
        std::sort(at(count), at(sorted));
      }
      reached += weight(kept_[count++].logit, highest, temperature);
      if (reached >= top_p * total) break;
    }
    kept_.resize(count);
  }

  std::vector<Candidate> kept_;
  std::vector<double> weights_;
};

thread_local Candidates candidates;
thread_local std::vector<float> allowed_logits;

// A copy in which tokens that may not be chosen have -inf.
std::span<float> only_allowed(std::span<const float> logits, std::span<const uint32_t> allowed) {
  allowed_logits.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    allowed_logits[i] = (allowed[i / 32] >> i % 32 & 1) != 0 ? logits[i] : -kInfinity;
  return allowed_logits;
}

int32_t sample_row(std::span<float> logits, const SamplingRow& row) {
  float highest = highest_logit(logits);
  if (std::isnan(highest)) return kNoToken;
  if (!row.allowed.empty()) logits = only_allowed(logits, row.allowed);
  const Penalised penalised(logits, row);
  if (!row.allowed.empty() || !row.history.empty()) highest = highest_logit(logits);
  if (std::isnan(highest)) return kNoToken;
  return row.parameters.temperature == 0.0 ? first_of(logits, highest) : candidates.draw(logits, highest, row);
}

}  // namespace

void sample(Cpu, int32_t* tokens, Rows<float> logits, const SamplingRow* rows, int64_t n, int64_t vocabulary) {
  const ProfileScope profile([&] { return ProfiledCall{"sample", 4 * n * vocabulary}; });
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) tokens[i] = sample_row({logits[i], static_cast<size_t>(vocabulary)}, rows[i]);
  });
}

void log_probabilities(Cpu, float* chosen, int32_t* top_tokens, float* top, ConstRows<float> logits,
                       const int32_t* tokens, int64_t n, int64_t vocabulary, int64_t k) {
  const ProfileScope profile([&] { return ProfiledCall{"log_probabilities", 8 * n * vocabulary}; });
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const std::span<const float> row(logits[i], static_cast<size_t>(vocabulary));
      const double normaliser = log_normaliser(row, highest_logit(row));
      const auto of = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - normaliser); };
      chosen[i] = of(row[static_cast<size_t>(tokens[i])]);
      candidates.take_top(row, k);
      for (size_t c = 0; c < candidates.kept().size(); ++c) {
        top_tokens[i * k + static_cast<int64_t>(c)] = candidates.kept()[c].token;
        top[i * k + static_cast<int64_t>(c)] = of(candidates.kept()[c].logit);
      }
    }
  });
}

}  // namespace lathe::kernel
