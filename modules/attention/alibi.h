// Attention with linear biases (Press, Smith and Lewis 2022, "Train Short, Test Long", section 3).
#pragma once
#include <cstdint>
#include <vector>

#include "config/model_sizes.h"

namespace lathe {

// The slope of each head's bias, which falls with the distance of a key. For a power of two of heads 2^(-m / heads),
// 2^(-2 m / heads), ... with m = `bias_max`; else those of the next lower power, and between them as many as are left
// of the next higher one's, as the authors' code and every published model have it.
std::vector<float> alibi_slopes(int64_t heads, double bias_max = 8.0);
// Of the heads that this rank has of the model's.
std::vector<float> alibi_slopes(const ModelSizes& config, double bias_max = 8.0);

}  // namespace lathe
