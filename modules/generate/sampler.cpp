#include "generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "tensor/errors.h"
#include "tensor/random.h"

namespace lathe {
uint64_t random_seed() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

TokenCount& TokenHistory::entry_of(int32_t token) {
  const auto [place, fresh] = places_.try_emplace(token, counts_.size());
  if (fresh) counts_.push_back({token, TokenCount::kUnseen});
  return counts_[place->second];
}

TokenCount& TokenHistory::seen(int32_t token) {
  TokenCount& entry = entry_of(token);
  if (entry.count == TokenCount::kUnseen) entry.count = 0;
  return entry;
}

void TokenHistory::add_bias(std::span<const std::pair<int32_t, float>> biases) {
  for (const auto& [token, bias] : biases) entry_of(token).bias += bias;
}

void TokenHistory::add_prompt(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) seen(token);
}

void TokenHistory::add_generated(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) ++seen(token).count;
}

double SampleKey::random() const { return random_uniform(seed, sequence, position); }

Error logits_error(const Tensor& row, uint64_t position) {
  const Tensor logits = row.to(Device{});
  const float *begin = logits.host<float>(), *end = begin + logits.elements();
  const auto bad = std::find_if(begin, end, [](float x) { return std::isnan(x) || x == HUGE_VALF; });
  if (bad == end)
    return Error(fmt::format("sampler: at position {} no token may be chosen: all logits are -inf", position));
  return Error(fmt::format("sampler: at position {} the logit of token {} is {}", position, bad - begin, *bad),
               "the model's activations overflow or its weights are damaged: lathe trace shows where");
}

std::vector<TokenLogprobs> token_logprobs(const Tensor& logits, std::span<const int32_t> tokens, int64_t k) {
  const Tensor wanted = Tensor::of<int32_t>({std::ssize(tokens)}, tokens.data()).to(logits.device());
  const LogProbabilities found = log_probabilities(logits, wanted, k);
  const Tensor chosen = found.chosen.to(Device{}), top = found.top.to(Device{}), ids = found.top_tokens.to(Device{});
  std::vector<TokenLogprobs> list;
  for (size_t row = 0; row < tokens.size(); ++row) {
    TokenLogprobs& of = list.emplace_back();
    of.chosen = {tokens[row], chosen.host<float>()[row]};
    const int64_t begin = static_cast<int64_t>(row) * top.dim(1);
    for (int64_t i = begin; i < begin + top.dim(1); ++i)
      of.top.push_back({ids.host<int32_t>()[i], top.host<float>()[i]});
  }
  return list;
}

}  // namespace lathe
