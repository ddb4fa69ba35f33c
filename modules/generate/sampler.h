// What a sequence is sampled by: its parameters, the tokens that it has seen, and the random number of each position.
// The arithmetic is an operation's (kernels/sampling.h).
//
// Surprising: the random number of a token is a function of (seed, index of the sequence in its request, position) and
// of nothing else, so a text does not depend on its neighbours in the batch, on threads, on chunking or on preemption.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "autograd/ops.h"

namespace lathe {

// A seed for a request that gives none.
uint64_t random_seed();

// Which tokens a sequence has seen, as the penalties need it, and what is added to logits.
class TokenHistory {
 public:
  void add_bias(std::span<const std::pair<int32_t, float>> biases);
  void add_prompt(std::span<const int32_t> tokens);
  void add_generated(std::span<const int32_t> tokens);
  std::span<const TokenCount> counts() const { return counts_; }

 private:
  TokenCount& entry_of(int32_t token);
  TokenCount& seen(int32_t token);

  std::vector<TokenCount> counts_;
  std::unordered_map<int32_t, size_t> places_;  // in counts_, by token
};

// What the random number of a token is a function of.
struct SampleKey {
  uint64_t seed = 0;
  uint64_t sequence = 0;  // index in its request
  uint64_t position = 0;  // where the sampled token will stand, counted from the first token of the prompt

  double random() const;  // uniform in [0, 1)
};

// Why kNoToken was sampled from a row of logits (1, V), naming the position and the token.
Error logits_error(const Tensor& row, uint64_t position);

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0.0f;  // natural logarithm
};

// Log-probabilities by the model's own distribution: before penalties, temperature and filters.
struct TokenLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob>
      top;  // the most probable ones, descending, ties by id; the same float where `chosen` is one
};
// By row of logits (R, V): of a token (R of them), and of the k most probable ones.
std::vector<TokenLogprobs> token_logprobs(const Tensor& logits, std::span<const int32_t> tokens, int64_t k);

}  // namespace lathe
