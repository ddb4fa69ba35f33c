// Embeddings: the hidden states of a text as one vector.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "load_model/checkpoint.h"
#include "tensor/tensor.h"

namespace lathe {

// Of the last layer's hidden states, after the final norm: the mean of all tokens', or the last token's own.
enum class Pooling : uint8_t { mean, last };
// Throws Error naming the known ones: "mean", "last".
Pooling parse_pooling(std::string_view name);
// What the checkpoint asks for: 1_Pooling/config.json, as sentence-transformers writes it, or GGUF's NAME.pooling_type;
// the mean where it says nothing. Throws Error where it wants what is not here.
Pooling default_pooling(const Checkpoint& checkpoint);

// The states of one text as they come, in pieces of any lengths: sums in double, in the order of the tokens, so that
// the pieces do not show in the result.
class PooledStates {
 public:
  // (n, C) f32, of the tokens from `position` on; those that came before are left out.
  void add(const Tensor& states, int64_t position, Pooling pooling);
  // (C), of unit length; empty where that cannot be had: states that are not finite, or nothing but zeros.
  std::vector<float> embedding() const;

 private:
  std::vector<double> pooled_;  // the sum: its direction is the mean's
  int64_t tokens_ = 0;
};

}  // namespace lathe
