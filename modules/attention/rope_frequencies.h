// The rotary frequencies of a model, with every scaling that extends its context.
#pragma once
#include <functional>
#include <vector>

#include "config/model_sizes.h"
#include "kernels/rope.h"

namespace lathe {

struct RopeFrequencies {
  std::vector<float> inverse;     // (R / 2) radians per position
  float attention_factor = 1.0f;  // multiplies cos and sin (yarn, longrope)
  RopeStyle style = RopeStyle::half_split;
  std::vector<float> local;  // (R / 2) of the layers with a window, unscaled (Gemma 3); empty: they take `inverse`
  // Dynamic scaling: a token behind the text that `inverse` is for has its own, of the text that it ends. Null: none.
  std::function<std::vector<float>(int64_t position)> behind;
  int64_t text_length = 0;  // the first position that has its own
};

// Of a text of `text_length` tokens, which some scalings depend on. Where the text goes on, what follows depends on
// what is there and never on what is planned, as in the reference libraries:
//   dynamic: each new token has the frequencies of the text that it ends; the keys before it stay as they are
//   longrope: when the text passes the original context, all of it is computed anew (rope_switch)
//   qwen: as chosen for the prompt
// The scalings:
//   default: theta^(-2i/R)                                   Su et al. 2021, section 3.2.2
//   linear: divided by the factor                            Chen et al. 2023, "Extending context window ..."
//   dynamic: theta grown with the length ("NTK-aware")       transformers, modeling_rope_utils
//   llama3: long wavelengths divided, a ramp between         Llama 3.1's published scaling
//   yarn: a ramp over components between both               Peng et al. 2023, section 3.2 and eq. 22
//   longrope: divisors by component, others for long texts  Ding et al. 2024, section 3; Phi-3
//   qwen: theta grown by alpha^(R / (R - 2)), alpha = 2^ceil(log2(length / original) + 1) - 1: steps of dynamic's kind
// Empty for a model without rotary positions.
RopeFrequencies rope_frequencies(const ModelConfig& config, int64_t text_length);
// The longest text that has the frequencies of short ones from its first token to its last (longrope); 0: no text has
// others.
int64_t rope_switch(const ModelConfig& config);

}  // namespace lathe
