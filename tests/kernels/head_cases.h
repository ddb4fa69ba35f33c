// Heads to be normed, rotated and written into a cache; for the tests of each device's kernel.
#pragma once
#include <cmath>

#include "kernels/qk_norm_rope_write.h"
#include "tests/kernels/kernel_data.h"

namespace lathe::test {

struct HeadCase {
  int64_t heads, kv_heads, head_dim, rotary_dim;  // rotary 0: no rotation
  bool norms;
  RopeStyle style;
};
inline constexpr HeadCase kHeadCases[] = {
    {9, 3, 64, 64, false, RopeStyle::half_split}, {4, 2, 20, 12, true, RopeStyle::half_split},
    {4, 4, 16, 16, true, RopeStyle::interleaved}, {2, 1, 7, 0, false, RopeStyle::half_split},
    {2, 2, 80, 0, true, RopeStyle::half_split},   {1, 1, 256, 64, true, RopeStyle::interleaved},
    {2, 1, 1, 0, false, RopeStyle::interleaved}};

// Tokens whose q, k and v lie in one row; some of them are not written.
struct HeadRows {
  HeadCase c;
  int64_t tokens, page_count = (tokens + 15) / 16 + 1;
  int64_t query = c.heads * c.head_dim, key = c.kv_heads * c.head_dim, stride = query + 2 * key + 5;
  std::vector<float> rows = random_floats(tokens * stride, 1);
  std::vector<float> q_norm = random_floats(c.head_dim, 2), k_norm = random_floats(c.head_dim, 3);
  std::vector<float> cos, sin;
  std::vector<int32_t> angles, slots;

  HeadRows(const HeadCase& of, int64_t tokens) : c(of), tokens(tokens) {
    for (int64_t i = 0; i < tokens * c.rotary_dim / 2; ++i) {
      cos.push_back(static_cast<float>(std::cos(static_cast<double>(i))));
      sin.push_back(static_cast<float>(std::sin(static_cast<double>(i))));
    }
    for (int64_t i = 0; i < tokens; ++i) {
      angles.push_back(static_cast<int32_t>(i * 3 % tokens));
      slots.push_back(i % 7 == 3 ? -1 : static_cast<int32_t>((5 * i + 3) % (16 * page_count)));
    }
  }
  QkNormRope steps() const {
    QkNormRope s;
    if (c.norms) s.q_norm = {q_norm.data(), 1e-6, 1.0}, s.k_norm = {k_norm.data(), 1e-6, 1.0};
    s.rotation = {cos.data(), sin.data(), angles.data(), c.rotary_dim, c.style};
    if (c.rotary_dim == 0) s.rotation = {.rotary_dim = c.head_dim / 2 * 2};  // without tables: none
    return s;
  }
  ConstRows<float> q() const { return {rows.data(), stride}; }
  ConstRows<float> k() const { return {rows.data() + query, stride}; }
  ConstRows<float> v() const { return {rows.data() + query + key, stride}; }

  int64_t page_bytes(DType dtype) const { return c.kv_heads * page_head_bytes(dtype, c.head_dim); }
  // Of keys, then of values; every bit set.
  std::vector<uint8_t> pages(DType dtype) const {
    return std::vector<uint8_t>(static_cast<size_t>(2 * page_count * page_bytes(dtype)), 0xff);
  }
  CacheLayer layer(std::vector<uint8_t>& pages, DType dtype) const {
    return {pages.data(), pages.data() + page_count * page_bytes(dtype), dtype, page_bytes(dtype)};
  }
  template <class On>
  void prepare(On on, float* out, std::vector<uint8_t>& pages, DType dtype) const {
    kernel::qk_norm_rope_write(on, out, layer(pages, dtype), q(), k(), v(), slots.data(), steps(), tokens, c.heads,
                               c.kv_heads, c.head_dim);
  }
};

}  // namespace lathe::test
