// What a model's logits say of the tokens that follow, from its hidden states.
//
// The logits exist for a few rows at a time: (R, V) is large where vocabularies are. Sums over a vocabulary are in
// double.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "llm/causal_lm.h"

namespace lathe {

// log p(targets[i]) after the token of row i of hidden (R, C): natural logarithms, by row.
std::vector<double> target_log_probabilities(const CausalLM& model, const Tensor& hidden,
                                             std::span<const int32_t> targets);

// One row of a model beside the same row of a reference model.
struct ComparedToken {
  double log_probability = 0.0, reference_log_probability = 0.0;  // of the target
  double divergence = 0.0;  // KL(reference || model) = sum_v p_ref(v) (log p_ref(v) - log p(v)), in nats
  bool same_top = false;    // whether both find the same token most probable
};
// hidden (R, C) and reference_hidden (R, C') over equal vocabularies; by row.
std::vector<ComparedToken> compare_tokens(const CausalLM& model, const Tensor& hidden, const CausalLM& reference,
                                          const Tensor& reference_hidden, std::span<const int32_t> targets);

}  // namespace lathe
