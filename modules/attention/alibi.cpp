#include "attention/alibi.h"

#include <bit>
#include <cmath>

namespace lathe {

std::vector<float> alibi_slopes(int64_t heads, double bias_max) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  std::vector<float> slopes;
  for (int64_t i = 0; i < heads; ++i) {
    // Number i of the lower power, then every other one of the higher.
    const double step = i < power ? static_cast<double>(i + 1) : static_cast<double>(i - power) + 0.5;
    slopes.push_back(static_cast<float>(std::exp2(-step * bias_max / static_cast<double>(power))));
  }
  return slopes;
}

std::vector<float> alibi_slopes(const ModelSizes& c, double bias_max) {
  const std::vector<float> all = alibi_slopes(c.heads_before + c.num_attention_heads + c.heads_behind, bias_max);
  return {all.begin() + c.heads_before, all.end() - c.heads_behind};
}

}  // namespace lathe
