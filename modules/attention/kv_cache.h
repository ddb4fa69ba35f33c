// The paged key-value cache: pages of 16 tokens, and in a page, layer by layer, the keys and the values of each head in
// 32, 16 or 8 bits, in a layout that belongs to the device (kernels/paged_attention.h).
//
// A page holds all layers, so that memory that no sequence has reached is never touched and a page is copied as one
// block. A contiguous cache is a page table that counts up.
#pragma once
#include <vector>

#include "config/model_sizes.h"
#include "kernels/paged_attention.h"
#include "tensor/tensor.h"

namespace lathe {

// Layers whose windows are equal share a page table: those with a sliding window free pages that the others keep.
struct LayerGroup {
  int64_t window = 0;           // 0: the layers see everything
  std::vector<int64_t> layers;  // ascending
};
std::vector<LayerGroup> layer_groups(const ModelSizes& config);

class KVCache {
 public:
  // `pages[g]` pages for each layer of group g. dtype: f32, f16, bf16 or q8_0. Contents undefined.
  KVCache(const ModelSizes& config, DType dtype, const std::vector<int64_t>& pages, Device device = {});

  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  size_t groups() const { return pages_.size(); }
  size_t group_of(int64_t layer) const { return places_[static_cast<size_t>(layer)].group; }
  // All pages of a group: (pages, bytes / 4 of a page over the group's layers) i32; only the kernels know the elements.
  const Tensor& pages(size_t group) const { return pages_[group]; }
  CacheLayer layer(int64_t layer) const;
  void copy_page(size_t group, int64_t from, int64_t to);
  size_t bytes() const;

  // Bytes of one page over all layers of a group.
  static size_t page_bytes(const ModelSizes& config, const LayerGroup& group, DType dtype);

 private:
  struct Place {
    size_t group;
    size_t index;  // of the layer within its group
  };
  DType dtype_;
  Device device_;
  size_t layer_bytes_;  // of a page's keys in one layer; its values follow them
  std::vector<Tensor> pages_;
  std::vector<Place> places_;  // by layer
};

}  // namespace lathe
