// The rotary frequencies of a model, with every scaling that extends its context.
#pragma once
#include <vector>

#include "config/model_config.h"
#include "kernels/rope.h"

namespace lathe {

struct RopeFrequencies {
  std::vector<float> inverse;     // (R / 2) radians per position
  float attention_factor = 1.0f;  // multiplies cos and sin (yarn, longrope)
  RopeStyle style = RopeStyle::half_split;
  std::vector<float> local;  // (R / 2) of the layers with a window, unscaled (Gemma 3); empty: they take `inverse`
};

// `sequence_length` is the length that a sequence is meant to reach: dynamic scaling depends on it, so it is chosen
// once a sequence, when its prefill begins; with it fixed, cached = full.
//   default: theta^(-2i/R)                                   Su et al. 2021, section 3.2.2
//   linear: divided by the factor                            Chen et al. 2023, "Extending context window ..."
//   dynamic: theta grown with the length ("NTK-aware")       transformers, modeling_rope_utils
//   llama3: long wavelengths divided, a ramp between         Llama 3.1's published scaling
//   yarn: a ramp over components between both               Peng et al. 2023, section 3.2 and eq. 22
//   longrope: divisors by component, others for long texts  Ding et al. 2024, section 3; Phi-3
//   qwen: theta grown by alpha^(R / (R - 2)), alpha = 2^ceil(log2(length / original) + 1) - 1: steps of dynamic's kind
// Empty for a model without rotary positions.
RopeFrequencies rope_frequencies(const ModelConfig& config, int64_t sequence_length);

}  // namespace lathe
