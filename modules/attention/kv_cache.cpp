#include "attention/kv_cache.h"

namespace lathe {

std::vector<LayerGroup> layer_groups(const ModelSizes& config) {
  std::vector<LayerGroup> groups;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    size_t g = 0;
    while (g < groups.size() && groups[g].window != config.window(layer)) ++g;
    if (g == groups.size()) groups.push_back({config.window(layer), {}});
    groups[g].layers.push_back(layer);
  }
  return groups;
}

namespace {

// A page's keys, or values, in one layer.
size_t layer_bytes(const ModelSizes& c, DType dtype) {
  return static_cast<size_t>(c.num_key_value_heads * page_head_bytes(dtype, c.head_dim));
}

}  // namespace

size_t KVCache::page_bytes(const ModelSizes& c, const LayerGroup& group, DType dtype) {
  return 2 * group.layers.size() * layer_bytes(c, dtype);
}

KVCache::KVCache(const ModelSizes& c, DType dtype, const std::vector<int64_t>& pages, Device device)
    : dtype_(dtype),
      device_(device),
      layer_bytes_(layer_bytes(c, dtype)),
      places_(static_cast<size_t>(c.num_hidden_layers)) {
  check(is_cache_dtype(dtype), "kv cache", "expected f32, f16, bf16 or q8_0, found {}", name(dtype));
  const std::vector<LayerGroup> groups = layer_groups(c);
  check(groups.size() == pages.size(), "kv cache", "the model has {} layer groups, pages are given for {}",
        groups.size(), pages.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    const size_t words = page_bytes(c, groups[g], dtype) / sizeof(int32_t);
    pages_.push_back(Tensor::empty({pages[g], static_cast<int64_t>(words)}, DType::i32, device));
    for (size_t i = 0; i < groups[g].layers.size(); ++i) places_[static_cast<size_t>(groups[g].layers[i])] = {g, i};
  }
}

CacheLayer KVCache::layer(int64_t layer) const {
  const Place& place = places_[static_cast<size_t>(layer)];
  const Tensor& pages = pages_[place.group];
  uint8_t* keys = static_cast<uint8_t*>(pages.raw()) + 2 * place.index * layer_bytes_;
  return {keys, keys + layer_bytes_, dtype_, pages.stride() * int64_t{sizeof(int32_t)}};
}

void KVCache::copy_page(size_t group, int64_t from, int64_t to) {
  pages_[group].row_range(to, to + 1).copy_from(pages_[group].row_range(from, from + 1));
}

size_t KVCache::bytes() const {
  size_t total = 0;
  for (const Tensor& pages : pages_) total += pages.bytes();
  return total;
}

}  // namespace lathe
