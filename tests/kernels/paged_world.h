// Sequences in a paged cache, and what attention over them must give; for the tests of each device's kernels.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/paged_attention.h"
#include "tests/catch.h"
#include "tests/kernels/kernel_data.h"

namespace lathe::test {

struct PagedCase {
  int64_t heads, kv_heads, head_dim;
  std::vector<int64_t> contexts;  // of each sequence
  DType dtype = DType::f32;
  int64_t window = 0;
  float softcap = 0.0f;
  bool alibi = false;
};

// Values, heads of head_dim of them, as the cache holds them.
inline std::vector<float> stored(std::vector<float> values, DType dtype, int64_t head_dim) {
  if (dtype == DType::f16)
    for (float& v : values) v = f16_to_f32(f32_to_f16(v));
  if (dtype == DType::bf16)
    for (float& v : values) v = bf16_to_f32(f32_to_bf16(v));
  if (dtype != DType::q8_0) return values;
  for (auto head = values.begin(); head != values.end(); head += head_dim)
    for (int64_t begin = 0; begin < head_dim; begin += kCacheBlock) {
      const auto block = head + begin, end = head + std::min<int64_t>(begin + kCacheBlock, head_dim);
      float most = 0;
      for (auto v = block; v != end; ++v) most = std::max(most, std::abs(*v));
      const float scale = f16_to_f32(f32_to_f16(most / 127.0f)), inverse = 1.0f / scale;
      for (auto v = block; v != end; ++v)
        *v = scale == 0 ? 0.0f : scale * std::nearbyint(std::clamp(*v * inverse, -127.0f, 127.0f));
    }
  return values;
}

// Sequences with all their queries, keys and values, and a cache of a device whose pages lie in a given order.
template <class Device>
struct World {
  PagedCase c;
  int64_t tokens = 0, pages_per_sequence = 0;
  std::vector<int64_t> start;  // first token of each sequence
  std::vector<float> q, k, v, slopes;
  std::vector<float> stored_k, stored_v;
  std::vector<int32_t> table;
  std::vector<uint8_t> k_pages, v_pages;
  size_t shift;

  // Pages begin `shift` bytes off their allocation.
  World(const PagedCase& of, unsigned page_seed, size_t shift = 0) : c(of), shift(shift) {
    for (int64_t context : c.contexts) {
      start.push_back(tokens);
      tokens += context;
      pages_per_sequence = std::max(pages_per_sequence, (context + kPageTokens - 1) / kPageTokens + 1);
    }
    q = random_floats(tokens * c.heads * c.head_dim, 1);
    k = random_floats(tokens * c.kv_heads * c.head_dim, 2);
    v = random_floats(tokens * c.kv_heads * c.head_dim, 3);
    stored_k = stored(k, c.dtype, c.head_dim);
    stored_v = stored(v, c.dtype, c.head_dim);
    for (int64_t h = 0; h < c.heads; ++h) slopes.push_back(std::exp2(-static_cast<float>(h + 1)));
    const int64_t sequences = static_cast<int64_t>(c.contexts.size()), pages = sequences * pages_per_sequence;
    table.resize(static_cast<size_t>(pages));
    std::iota(table.begin(), table.end(), 0);
    if (page_seed != 0) std::shuffle(table.begin(), table.end(), std::mt19937(page_seed));
    // Every bit set is a NaN in every dtype, in q8_0 by the scale: what nobody wrote must not be read.
    const size_t bytes = static_cast<size_t>(pages * page_stride()) + shift;
    k_pages.assign(bytes, 0xff);
    v_pages.assign(bytes, 0xff);
    std::vector<int32_t> slots;
    for (int64_t s = 0; s < sequences; ++s)
      for (int64_t i = 0; i < c.contexts[static_cast<size_t>(s)]; ++i)
        slots.push_back(table[static_cast<size_t>(s * pages_per_sequence + i / kPageTokens)] * kPageTokens +
                        static_cast<int32_t>(i % kPageTokens));
    const int64_t ld = c.kv_heads * c.head_dim;
    kernel::write_kv(Device{}, layer(), {k.data(), ld}, {v.data(), ld}, slots.data(), tokens, c.kv_heads, c.head_dim);
  }

  int64_t page_stride() const { return c.kv_heads * page_head_bytes(c.dtype, c.head_dim); }
  CacheLayer layer() const {
    return {const_cast<uint8_t*>(k_pages.data()) + shift, const_cast<uint8_t*>(v_pages.data()) + shift, c.dtype,
            page_stride()};
  }

  ScoreOptions options() const {
    return {1.0f / std::sqrt(static_cast<float>(c.head_dim)), c.window, c.softcap, c.alibi ? slopes.data() : nullptr};
  }

  // Tokens [from, to) of each listed sequence as one call; row t of `out` is token t of the world.
  void attend(Guarded& out, const std::vector<int64_t>& sequences, const std::vector<int64_t>& from,
              const std::vector<int64_t>& to) const {
    const int64_t row = c.heads * c.head_dim;
    std::vector<int32_t> seq_start{0}, context_len, pages;
    std::vector<float> queries;
    int64_t longest = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const size_t s = static_cast<size_t>(sequences[i]);
      seq_start.push_back(seq_start.back() + static_cast<int32_t>(to[i] - from[i]));
      context_len.push_back(static_cast<int32_t>(to[i]));
      longest = std::max(longest, to[i]);
      const auto first = table.begin() + static_cast<int64_t>(s) * pages_per_sequence;
      pages.insert(pages.end(), first, first + pages_per_sequence);
      queries.insert(queries.end(), q.begin() + (start[s] + from[i]) * row, q.begin() + (start[s] + to[i]) * row);
    }
    const int64_t n = seq_start.back();
    Guarded y(n * row);
    const size_t bytes =
        kernel::paged_attention_scratch_bytes(Device{}, layer().dtype, n, c.heads, c.head_dim, longest);
    Aligned scratch(bytes);
    std::fill_n(scratch.data(), bytes, 0xff);
    kernel::paged_attention(Device{}, y.data(), {queries.data(), row}, layer(),
                            {seq_start.data(), context_len.data(), pages.data(), static_cast<int64_t>(sequences.size()),
                             pages_per_sequence, n, longest},
                            c.heads, c.kv_heads, c.head_dim, options(), scratch.data());
    CHECK(y.intact());
    int64_t at = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const size_t s = static_cast<size_t>(sequences[i]);
      const int64_t count = (to[i] - from[i]) * row;
      std::copy(y.data() + at, y.data() + at + count, out.data() + (start[s] + from[i]) * row);
      at += count;
    }
  }
  std::vector<int64_t> all_sequences() const {
    std::vector<int64_t> s(c.contexts.size());
    std::iota(s.begin(), s.end(), 0);
    return s;
  }
  Guarded whole() const {
    Guarded out(tokens * c.heads * c.head_dim);
    attend(out, all_sequences(), std::vector<int64_t>(c.contexts.size(), 0), c.contexts);
    return out;
  }
  // Whether the last tokens of all sequences, taken in one call, have their bits of `whole`.
  bool last_tokens_alike(const Guarded& whole) const {
    const int64_t row = c.heads * c.head_dim;
    Guarded out(tokens * row);
    std::vector<int64_t> from;
    for (int64_t context : c.contexts) from.push_back(context - 1);
    attend(out, all_sequences(), from, c.contexts);
    bool alike = true;
    for (size_t s = 0; s < c.contexts.size(); ++s) {
      const int64_t at = (start[s] + c.contexts[s] - 1) * row;
      alike = alike && std::equal(out.data() + at, out.data() + at + row, whole.data() + at);
    }
    return alike;
  }

  // softmax(transform(q k^T)) v of one head in double.
  std::vector<double> expected(int64_t s, int64_t i, int64_t head) const {
    const int64_t kv = head / (c.heads / c.kv_heads), base = start[static_cast<size_t>(s)];
    const float* query = q.data() + ((base + i) * c.heads + head) * c.head_dim;
    const int64_t first = c.window > 0 ? std::max<int64_t>(0, i + 1 - c.window) : 0;
    double most = -1e300, sum = 0;
    std::vector<double> scores, y(static_cast<size_t>(c.head_dim), 0.0);
    for (int64_t j = first; j <= i; ++j) {
      double score = 0;
      for (int64_t e = 0; e < c.head_dim; ++e)
        score += static_cast<double>(query[e]) *
                 static_cast<double>(stored_k[static_cast<size_t>(((base + j) * c.kv_heads + kv) * c.head_dim + e)]);
      score *= static_cast<double>(options().scale);
      if (c.softcap > 0) score = c.softcap * std::tanh(score / c.softcap);
      if (c.alibi) score += static_cast<double>(slopes[static_cast<size_t>(head)]) * static_cast<double>(j - i);
      most = std::max(most, score);
      scores.push_back(score);
    }
    for (int64_t j = first; j <= i; ++j) {
      const double p = std::exp(scores[static_cast<size_t>(j - first)] - most);
      const float* value = stored_v.data() + ((base + j) * c.kv_heads + kv) * c.head_dim;
      sum += p;
      for (double& component : y) component += p * static_cast<double>(*value++);
    }
    for (double& component : y) component /= sum;
    return y;
  }
};

}  // namespace lathe::test
