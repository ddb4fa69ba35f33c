#include "attention/kv_cache.h"

namespace lathe {

std::vector<LayerGroup> layer_groups(const ModelConfig& config) {
  std::vector<LayerGroup> groups;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    size_t g = 0;
    while (g < groups.size() && groups[g].window != config.window(layer)) ++g;
    if (g == groups.size()) groups.push_back({config.window(layer), {}});
    groups[g].layers.push_back(layer);
  }
  return groups;
}

size_t KVCache::page_bytes(const ModelConfig& c, const LayerGroup& group, DType dtype) {
  return 2 * group.layers.size() * bytes_of(dtype, c.num_key_value_heads * c.head_dim * kPageTokens);
}

KVCache::KVCache(const ModelConfig& c, DType dtype, const std::vector<int64_t>& pages, Device device)
    : dtype_(dtype), pages_(pages), group_of_(static_cast<size_t>(c.num_hidden_layers)) {
  check(dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16, "kv cache",
        "expected f32, f16 or bf16, found {}", name(dtype));
  const std::vector<LayerGroup> groups = layer_groups(c);
  check(groups.size() == pages.size(), "kv cache", "the model has {} layer groups, pages are given for {}",
        groups.size(), pages.size());
  keys_.resize(group_of_.size());
  values_.resize(group_of_.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const int64_t layer : groups[g].layers) {
      const auto l = static_cast<size_t>(layer);
      group_of_[l] = g;
      keys_[l] = Tensor::empty({pages[g], c.num_key_value_heads, c.head_dim, kPageTokens}, dtype, device);
      values_[l] = Tensor::empty({pages[g], c.num_key_value_heads, kPageTokens, c.head_dim}, dtype, device);
    }
  }
}

size_t KVCache::bytes() const {
  size_t total = 0;
  for (size_t l = 0; l < keys_.size(); ++l) total += keys_[l].bytes() + values_[l].bytes();
  return total;
}

}  // namespace lathe
