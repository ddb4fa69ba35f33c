// The paged key-value cache: for each layer, pages of 16 tokens, keys [page][Hk][D][16] and values [page][Hk][16][D].
//
// Keys are transposed inside a page so that a vector register holds one component of 16 keys and scores need no
// horizontal sums. A contiguous cache is a page table that counts up.
#pragma once
#include <vector>

#include "config/model_config.h"
#include "kernels/paged_attention.h"
#include "tensor/tensor.h"

namespace lathe {

// Layers whose windows are equal share a page table: those with a sliding window free pages that the others keep.
struct LayerGroup {
  int64_t window = 0;           // 0: the layers see everything
  std::vector<int64_t> layers;  // ascending
};
std::vector<LayerGroup> layer_groups(const ModelConfig& config);

class KVCache {
 public:
  // `pages[g]` pages for each layer of group g. dtype: f32, f16 or bf16. Contents undefined.
  KVCache(const ModelConfig& config, DType dtype, const std::vector<int64_t>& pages, Device device = {});

  DType dtype() const { return dtype_; }
  int64_t pages(size_t group) const { return pages_[group]; }
  size_t groups() const { return pages_.size(); }
  size_t group_of(int64_t layer) const { return group_of_[static_cast<size_t>(layer)]; }
  const Tensor& keys(int64_t layer) const { return keys_[static_cast<size_t>(layer)]; }      // (pages, Hk, D, 16)
  const Tensor& values(int64_t layer) const { return values_[static_cast<size_t>(layer)]; }  // (pages, Hk, 16, D)
  size_t bytes() const;

  // Bytes of one page over all layers of a group.
  static size_t page_bytes(const ModelConfig& config, const LayerGroup& group, DType dtype);

 private:
  DType dtype_;
  std::vector<int64_t> pages_;
  std::vector<size_t> group_of_;
  std::vector<Tensor> keys_, values_;
};

}  // namespace lathe
