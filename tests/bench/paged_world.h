// One sequence with its keys and values in pages, as one layer of a model has them, for the benchmark of attention.
#pragma once
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "kernels/paged_attention.h"
#include "tests/bench/bench.h"
#include "tests/kernels/kernel_data.h"

namespace lathe::bench {

inline constexpr DType kCacheDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0};

class PagedWorld {
 public:
  PagedWorld(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t context, int64_t new_tokens, DType dtype)
      : heads_(heads),
        kv_heads_(kv_heads),
        head_dim_(head_dim),
        pages_((context + kPageTokens - 1) / kPageTokens),
        dtype_(dtype),
        page_bytes_(kv_heads * page_head_bytes(dtype, head_dim)),
        cache_(static_cast<size_t>(2 * pages_ * page_bytes_)),
        table_(static_cast<size_t>(pages_)),
        start_{0, static_cast<int32_t>(new_tokens)},
        context_(static_cast<int32_t>(context)),
        q_(test::random_floats(new_tokens * heads * head_dim, 1)),
        out_(q_.size()),
        scratch_(kernel::paged_attention_scratch_bytes(Cpu{}, dtype, new_tokens, heads, head_dim, context)) {
    std::iota(table_.begin(), table_.end(), 0);
    std::vector<int32_t> slots(static_cast<size_t>(context));
    std::iota(slots.begin(), slots.end(), 0);
    const int64_t width = kv_heads * head_dim;
    const std::vector<float> k = test::random_floats(context * width, 2), v = test::random_floats(context * width, 3);
    kernel::write_kv(Cpu{}, layer(cache_.data()), {k.data(), width}, {v.data(), width}, slots.data(), context, kv_heads,
                     head_dim);
  }

  // From now on each call reads another copy of the cache, from memory.
  void from_memory() { copies_ = std::make_unique<FromMemory>(cache_.data(), static_cast<size_t>(cache_bytes())); }
  int64_t copies() const { return copies_ ? copies_->copies() : 0; }
  double cache_bytes() const { return 2.0 * static_cast<double>(pages_ * page_bytes_); }

  CacheLayer layer(uint8_t* cache) const { return {cache, cache + pages_ * page_bytes_, dtype_, page_bytes_}; }
  CacheLayer next_layer() { return layer(copies_ ? copies_->next() : cache_.data()); }
  const int32_t* table() const { return table_.data(); }
  const float* q() const { return q_.data(); }
  float* out() { return out_.data(); }
  ScoreOptions options() const { return {1.0f / std::sqrt(static_cast<float>(head_dim_))}; }

  void attend() {
    kernel::paged_attention(Cpu{}, out_.data(), {q_.data(), heads_ * head_dim_}, next_layer(),
                            {start_, &context_, table_.data(), 1, pages_}, heads_, kv_heads_, head_dim_, options(),
                            scratch_.data());
  }

 private:
  int64_t heads_, kv_heads_, head_dim_, pages_;
  DType dtype_;
  int64_t page_bytes_;
  test::Aligned cache_;
  std::vector<int32_t> table_;
  int32_t start_[2], context_;
  std::vector<float> q_, out_;
  test::Aligned scratch_;
  std::unique_ptr<FromMemory> copies_;
};

}  // namespace lathe::bench
