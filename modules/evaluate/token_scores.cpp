#include "evaluate/token_scores.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "tensor/threads.h"

namespace lathe {
namespace {

constexpr int64_t kLogitsElements = int64_t{1} << 22;  // 16 MiB of logits at a time

// Logits of some rows (r, V), and by row their logsumexp and the target's logit.
struct ScoredRows {
  Tensor logits;
  std::vector<double> logsumexp;
  std::vector<float> target_logit;

  ScoredRows(const CausalLM& model, const Tensor& hidden, std::span<const int32_t> targets)
      : logits(apply_head(hidden, model.head())), logsumexp(targets.size()), target_logit(targets.size()) {
    const Tensor ids = Tensor::of<int32_t>({std::ssize(targets)}, targets.data());
    const RowLogsumexp of = row_logsumexp(logits, ids.to(logits.device()));
    const Tensor maximum = of.maximum.to(Device{}), sum = of.sum.to(Device{}), target = of.target_logit.to(Device{});
    for (size_t i = 0; i < targets.size(); ++i) {
      logsumexp[i] = maximum.host<float>()[i] + std::log(sum.host<double>()[i]);
      target_logit[i] = target.host<float>()[i];
    }
    logits = logits.to(Device{});
  }
  double log_probability(size_t row) const { return target_logit[row] - logsumexp[row]; }
  std::span<const float> row(int64_t i) const {
    return {logits.host<float>() + i * logits.stride(), static_cast<size_t>(logits.dim(1))};
  }
};

// f(begin, end) over the rows, in blocks whose logits are of bounded size.
template <class F>
void for_each_block(int64_t rows, int64_t vocabulary, F&& f) {
  const int64_t step = std::max<int64_t>(1, kLogitsElements / vocabulary);
  for (int64_t begin = 0; begin < rows; begin += step) f(begin, std::min(rows, begin + step));
}

std::span<const int32_t> part(std::span<const int32_t> targets, int64_t begin, int64_t end) {
  return targets.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

ComparedToken compare_row(const ScoredRows& model, const ScoredRows& reference, int64_t i) {
  const auto r = static_cast<size_t>(i);
  const std::span<const float> row = model.row(i), other = reference.row(i);
  double divergence = 0.0;
  for (size_t v = 0; v < row.size(); ++v) {
    const double log_q = other[v] - reference.logsumexp[r], log_p = row[v] - model.logsumexp[r];
    if (log_q > -700.0) divergence += std::exp(log_q) * (log_q - log_p);  // exp underflows below
  }
  const auto top = [](std::span<const float> x) { return std::max_element(x.begin(), x.end()) - x.begin(); };
  // It is never negative; its rounding may be.
  return {model.log_probability(r), reference.log_probability(r), std::max(0.0, divergence), top(row) == top(other)};
}

}  // namespace

std::vector<double> target_log_probabilities(const CausalLM& model, const Tensor& hidden,
                                             std::span<const int32_t> targets) {
  std::vector<double> result;
  for_each_block(hidden.dim(0), model.sizes.vocab_size, [&](int64_t begin, int64_t end) {
    const ScoredRows rows(model, hidden.row_range(begin, end), part(targets, begin, end));
    for (size_t i = 0; i < rows.logsumexp.size(); ++i) result.push_back(rows.log_probability(i));
  });
  return result;
}

std::vector<ComparedToken> compare_tokens(const CausalLM& model, const Tensor& hidden, const CausalLM& reference,
                                          const Tensor& reference_hidden, std::span<const int32_t> targets) {
  std::vector<ComparedToken> result(targets.size());
  for_each_block(hidden.dim(0), model.sizes.vocab_size, [&](int64_t begin, int64_t end) {
    const ScoredRows rows(model, hidden.row_range(begin, end), part(targets, begin, end));
    const ScoredRows others(reference, reference_hidden.row_range(begin, end), part(targets, begin, end));
    parallel_for(end - begin, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) result[static_cast<size_t>(begin + i)] = compare_row(rows, others, i);
    });
  });
  return result;
}

}  // namespace lathe
