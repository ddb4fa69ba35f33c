// The names that GGUF gives to what most families have, weights and biases alike. A family adds its norms, whose names
// differ, and whatever it has besides. Source: llama.cpp, gguf-py, tensor names by architecture.
#pragma once
#include <string>

#include "load_model/weight_mapping.h"

namespace lathe {

// Embedding, head, final norm, projections and feed-forward net (gated or not). `rotated_rows`: the order of the rows
// of q and k, null where it is the model's.
WeightMapping gguf_mapping(const RowPermutation& rotated_rows = nullptr);
// The same where a file holds q, k and v in one tensor, all of q first.
WeightMapping gguf_mapping_of_fused();
// Weight and bias of every layer's `source` are those of its `target`: "attn_norm", "input_layernorm".
WeightMapping& rename_in_layers(WeightMapping& mapping, const std::string& source, const std::string& target);

}  // namespace lathe
