#include "attention/kv_cache.h"

#include <cstring>

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
    : dtype_(dtype),
      layer_elements_(c.num_key_value_heads * c.head_dim * kPageTokens),
      places_(static_cast<size_t>(c.num_hidden_layers)) {
  check(dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16, "kv cache",
        "expected f32, f16 or bf16, found {}", name(dtype));
  const std::vector<LayerGroup> groups = layer_groups(c);
  check(groups.size() == pages.size(), "kv cache", "the model has {} layer groups, pages are given for {}",
        groups.size(), pages.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto layers = static_cast<int64_t>(groups[g].layers.size());
    pages_.push_back(Tensor::empty({pages[g], 2 * layers * layer_elements_}, dtype, device));
    for (int64_t i = 0; i < layers; ++i)
      places_[static_cast<size_t>(groups[g].layers[static_cast<size_t>(i)])] = {g, i};
  }
}

cpu::LayerPages KVCache::layer(int64_t layer) const {
  const Place& place = places_[static_cast<size_t>(layer)];
  const Tensor& pages = pages_[place.group];
  const size_t bytes = bytes_of(dtype_, layer_elements_);
  uint8_t* keys = static_cast<uint8_t*>(pages.raw()) + 2 * static_cast<size_t>(place.index) * bytes;
  return {keys, keys + bytes, dtype_, pages.stride()};
}

void KVCache::copy_page(size_t group, int64_t from, int64_t to) {
  const Tensor& pages = pages_[group];
  const size_t bytes = bytes_of(dtype_, pages.dim(1));
  auto* base = static_cast<uint8_t*>(pages.raw());
  std::memcpy(base + static_cast<size_t>(to) * bytes, base + static_cast<size_t>(from) * bytes, bytes);
}

size_t KVCache::bytes() const {
  size_t total = 0;
  for (const Tensor& pages : pages_) total += pages.bytes();
  return total;
}

}  // namespace lathe
