// Looking inside: the activations of one forward pass over one sequence, and the gradients of its loss.
//
// Attention goes over the sequence's own tokens, without a cache, as in training: what is seen is what has a gradient.
#pragma once
#include <span>
#include <string>

#include "llm/load.h"

namespace lathe {

// The hidden states after the final norm: (N, C).
Tensor hidden_states(const CausalLM& model, std::span<const int32_t> tokens);

// A copy of every tap (docs/shapes.md) whose name the shell pattern `filter` admits, in the order of the computation;
// "logits", (N, V), is the last.
NamedTensors trace(const CausalLM& model, std::span<const int32_t> tokens, const std::string& filter = "*");

// "loss", the mean cross-entropy of every token but the first (a scalar), then "grad.<name>" for each tensor of the
// checkpoint, in its own name and shape. For models loaded as trainable. What training
// has summed in the parameters' gradients stays as it is.
NamedTensors loss_and_gradients(const LoadedModel& loaded, std::span<const int32_t> tokens);

}  // namespace lathe
