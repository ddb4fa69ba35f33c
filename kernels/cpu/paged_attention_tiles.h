// Tiles of the paged attention, a template over the simd struct (simd.h). Included by kernels_<isa>.cpp.
//
// A tile is a few query rows that share a key-value head, against one segment of 256 keys. Scores of 16 keys are one
// vector (keys lie transposed), and a row's work on a segment is the same sequence of operations whatever rows stand
// beside it: its dot products ascend in the component, its outputs in the key, and what it may not see is never
// touched, so that garbage behind a context's end, NaN included, cannot enter.
//
// Source: Dao 2023, FlashAttention-2, algorithm 1; here a segment's maximum is known before its exponentials.
#pragma once
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/vector_math.h"

namespace lathe::cpu {

template <class S>
struct AttentionTiles {
  using Floats = typename S::Floats;
  static constexpr int kRows = S::kAttentionRows;
  static constexpr int kPages = S::kAttentionPages;
  static constexpr int kSegmentPages = kSegmentTokens / kPageTokens;
  static constexpr int kColumns = 4;  // vectors of a value's components that are summed together

  struct CacheF32 {
    using Element = float;
    static LATHE_INLINE Floats load(const float* p) { return S::load(p); }
    static LATHE_INLINE float widen(float v) { return v; }
    static LATHE_INLINE void store(float* p, Floats v) { S::store(p, v); }
  };
  struct CacheF16 {
    using Element = uint16_t;
    static LATHE_INLINE Floats load(const uint16_t* p) { return S::load_f16(p); }
    static LATHE_INLINE float widen(uint16_t v) { return f16_to_f32(v); }
    static LATHE_INLINE void store(uint16_t* p, Floats v) { S::store_f16(p, v); }
  };
  struct CacheBf16 {
    using Element = uint16_t;
    static LATHE_INLINE Floats load(const uint16_t* p) { return S::load_bf16(p); }
    static LATHE_INLINE float widen(uint16_t v) { return bf16_to_f32(v); }
    static LATHE_INLINE void store(uint16_t* p, Floats v) { S::store_bf16(p, v); }
  };

  // The rows of a tile that see anything of a segment, and what they see: keys [from, to) relative to its start.
  template <int kActive>
  struct Rows {
    AttentionTile& tile;
    const AttentionSource& source;
    int index[kActive];  // in the tile
    int from[kActive], to[kActive];
    int64_t segment_start;
    const int32_t* pages;  // of the segment
    float* scores;         // [kActive][kSegmentTokens], then the exponentials

    template <class Cache>
    const typename Cache::Element* keys(int page) const {
      const auto* base = static_cast<const typename Cache::Element*>(source.cache.keys);
      return base + pages[page] * source.cache.stride + source.kv_head * source.head_dim * kPageTokens;
    }
    template <class Cache>
    const typename Cache::Element* values(int page) const {
      const auto* base = static_cast<const typename Cache::Element*>(source.cache.values);
      return base + pages[page] * source.cache.stride + source.kv_head * source.head_dim * kPageTokens;
    }
  };

  // ---- scores ----

  // Pages [page, page + kCount) of `pages`. Few rows (decoding) wait for memory, and the hardware does not follow from
  // page to page: while keys are read, the next ones and the values of the same pages are fetched.
  template <class Cache, int kActive, int kCount>
  static LATHE_INLINE void score_pages(const Rows<kActive>& rows, int page, int pages) {
    constexpr bool kFetch = kActive <= kRows / 2;
    Floats sum[kActive][kCount];
    const typename Cache::Element *keys[kCount], *next[kCount], *values[kCount];
    const float* q[kActive];
    LATHE_FOR(p, kCount) {
      keys[p] = rows.template keys<Cache>(page + p);
      next[p] = page + kCount + p < pages ? rows.template keys<Cache>(page + kCount + p) : keys[p];
      values[p] = rows.template values<Cache>(page + p);
    }
    LATHE_FOR(m, kActive) {
      q[m] = rows.tile.q[rows.index[m]];
      LATHE_FOR(p, kCount) { sum[m][p] = S::zero(); }
    }
    for (int64_t d = 0; d < rows.source.head_dim; ++d) {
      Floats k[kCount];
      LATHE_FOR(p, kCount) { k[p] = Cache::load(keys[p] + d * kPageTokens); }
      if constexpr (kFetch) {
        LATHE_FOR(p, kCount) {
          __builtin_prefetch(next[p] + d * kPageTokens);
          __builtin_prefetch(values[p] + d * kPageTokens);
        }
      }
      LATHE_FOR(m, kActive) {
        const Floats qd = S::set1(q[m][d]);
        LATHE_FOR(p, kCount) { sum[m][p] = S::fma(k[p], qd, sum[m][p]); }
      }
    }
    LATHE_FOR(m, kActive) {
      LATHE_FOR(p, kCount) { S::store(rows.scores + m * kSegmentTokens + (page + p) * kPageTokens, sum[m][p]); }
    }
  }

  static LATHE_INLINE Floats transform(Floats s, const AttentionOptions& options, float slope, float first_distance) {
    s = s * S::set1(options.scale);
    if (options.softcap != 0.0f)
      s = VectorMath<S>::tanh(s * S::set1(1.0f / options.softcap)) * S::set1(options.softcap);
    if (options.alibi_slopes != nullptr) {
      static constexpr float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      s = S::fma(S::set1(slope), S::load(kLane) + S::set1(first_distance), s);
    }
    return s;
  }

  // Turns a row's products into exponentials, zero outside [from, to). Returns their maximum and sum.
  template <int kActive>
  static void exponentials(const Rows<kActive>& rows, int m, float& maximum, float& sum) {
    constexpr float kLeast = -3.0e38f;
    const int row = rows.index[m], from = rows.from[m], to = rows.to[m];
    const int first_page = from / kPageTokens, last_page = (to + kPageTokens - 1) / kPageTokens;
    const int64_t position = rows.tile.last[row] - 1;
    float* scores = rows.scores + m * kSegmentTokens;
    Floats most = S::set1(kLeast), total = S::zero();
    for (int page = first_page; page < last_page; ++page) {
      const int key = page * kPageTokens;
      const float distance = static_cast<float>(rows.segment_start + key - position);
      Floats s = transform(S::load(scores + key), rows.source.options, rows.tile.slope[row], distance);
      s = S::keep_lanes(s, from - key, to - key, kLeast);
      most = S::maximum(most, s);
      S::store(scores + key, s);
    }
    maximum = S::largest(most);
    for (int page = first_page; page < last_page; ++page) {
      const int key = page * kPageTokens;
      Floats e = VectorMath<S>::exp(S::load(scores + key) - S::set1(maximum));
      e = S::keep_lanes(e, from - key, to - key, 0.0f);
      total = total + e;
      S::store(scores + key, e);
    }
    sum = S::sum(total);
  }

  // ---- outputs ----

  // Adds the values of keys [from, to), weighted, for rows [m0, m1), to components of one vector or of kColumns.
  template <class Cache, int kActive, int kCount, int kFirst, int kEnd>
  static LATHE_INLINE void add_values(Floats (&sum)[kActive][kCount], const Rows<kActive>& rows, int64_t d, int from,
                                      int to) {
    while (from < to) {
      const int page = from / kPageTokens, page_end = (page + 1) * kPageTokens, end = to < page_end ? to : page_end;
      const auto* v = rows.template values<Cache>(page) + (from % kPageTokens) * rows.source.head_dim + d;
      for (; from < end; ++from, v += rows.source.head_dim) {
        Floats value[kCount];
        LATHE_FOR(c, kCount) { value[c] = load_value<Cache>(v + c * 16, rows.source.head_dim - d - c * 16); }
        LATHE_FOR(m, kEnd - kFirst) {
          const Floats weight = S::set1(rows.scores[(kFirst + m) * kSegmentTokens + from]);
          LATHE_FOR(c, kCount) { sum[kFirst + m][c] = S::fma(value[c], weight, sum[kFirst + m][c]); }
        }
      }
    }
  }
  template <class Cache>
  static LATHE_INLINE Floats load_value(const typename Cache::Element* p, int64_t left) {
    if (left >= 16) [[likely]]
      return Cache::load(p);
    float lanes[16] = {};
    for (int i = 0; i < left; ++i) lanes[i] = Cache::widen(p[i]);
    return S::load(lanes);
  }
  // One row's keys [from, to) for each row in turn.
  template <class Cache, int kActive, int kCount, int kRow = 0, class From, class To>
  static LATHE_INLINE void add_by_row(Floats (&sum)[kActive][kCount], const Rows<kActive>& rows, int64_t d, From from,
                                      To to) {
    add_values<Cache, kActive, kCount, kRow, kRow + 1>(sum, rows, d, from(kRow), to(kRow));
    if constexpr (kRow + 1 < kActive) add_by_row<Cache, kActive, kCount, kRow + 1>(sum, rows, d, from, to);
  }

  // Components [d, d + 16 kCount) of all rows: what all see together, what only some see one by one, keys ascending.
  template <class Cache, int kActive, int kCount>
  static void weigh(const Rows<kActive>& rows, const float* keep, const float* add, bool merge, int64_t d) {
    Floats sum[kActive][kCount];
    int common_from = rows.from[0], common_to = rows.to[0];
    LATHE_FOR(m, kActive) {
      common_from = rows.from[m] > common_from ? rows.from[m] : common_from;
      common_to = rows.to[m] < common_to ? rows.to[m] : common_to;
      LATHE_FOR(c, kCount) { sum[m][c] = S::zero(); }
    }
    if (common_from > common_to) common_from = common_to = kSegmentTokens;  // nothing in common: all of it one by one
    const auto before = [&](int m) { return rows.to[m] < common_from ? rows.to[m] : common_from; };
    const auto after = [&](int m) { return rows.from[m] > common_to ? rows.from[m] : common_to; };
    add_by_row<Cache>(
        sum, rows, d, [&](int m) { return rows.from[m]; }, before);
    add_values<Cache, kActive, kCount, 0, kActive>(sum, rows, d, common_from, common_to);
    add_by_row<Cache>(sum, rows, d, after, [&](int m) { return rows.to[m]; });
    LATHE_FOR(m, kActive) {
      LATHE_FOR(c, kCount) {
        float* out = rows.tile.out[rows.index[m]] + d + c * 16;
        const int64_t left = rows.source.head_dim - d - c * 16;
        const int lanes = left < 16 ? static_cast<int>(left) : 16;
        if (merge) sum[m][c] = merged(S::load_partial(out, lanes), keep[m], sum[m][c], add[m]);
        S::store_partial(out, sum[m][c], lanes);
      }
    }
  }

  // ---- merging of segments ----

  static LATHE_INLINE Floats merged(Floats out, float keep, Floats segment, float add) {
    return S::fma(segment, S::set1(add), out * S::set1(keep));
  }
  // Takes a segment's maximum and sum into the running ones; gives the factors of what was and of what comes.
  static void merge_state(float& maximum, float& sum, float segment_maximum, float segment_sum, float& keep,
                          float& add) {
    const float most = segment_maximum > maximum ? segment_maximum : maximum;
    float lanes[16] = {maximum - most, segment_maximum - most};
    S::store(lanes, VectorMath<S>::exp(S::load(lanes)));
    keep = lanes[0];
    add = lanes[1];
    sum = sum * keep + segment_sum * add;
    maximum = most;
  }

  template <class Cache, int kActive>
  static void segment_of(Rows<kActive>& rows, bool merge) {
    int first = rows.from[0], last = rows.to[0];
    for (int m = 1; m < kActive; ++m) {
      first = rows.from[m] < first ? rows.from[m] : first;
      last = rows.to[m] > last ? rows.to[m] : last;
    }
    alignas(64) float scores[kActive * kSegmentTokens];
    rows.scores = scores;
    int page = first / kPageTokens;
    const int pages = (last + kPageTokens - 1) / kPageTokens;
    for (; page + kPages <= pages; page += kPages) score_pages<Cache, kActive, kPages>(rows, page, pages);
    for (; page < pages; ++page) score_pages<Cache, kActive, 1>(rows, page, pages);

    float keep[kActive], add[kActive];
    for (int m = 0; m < kActive; ++m) {
      float &maximum = rows.tile.maximum[rows.index[m]], &sum = rows.tile.sum[rows.index[m]];
      float segment_maximum, segment_sum;
      exponentials(rows, m, segment_maximum, segment_sum);
      if (merge) {
        merge_state(maximum, sum, segment_maximum, segment_sum, keep[m], add[m]);
      } else {
        maximum = segment_maximum;
        sum = segment_sum;
      }
    }
    int64_t d = 0;
    for (; d + kColumns * 16 <= rows.source.head_dim; d += kColumns * 16)
      weigh<Cache, kActive, kColumns>(rows, keep, add, merge, d);
    for (; d < rows.source.head_dim; d += 16) weigh<Cache, kActive, 1>(rows, keep, add, merge, d);
  }

  template <class Cache, int kActive>
  static void active_rows(int active, AttentionTile& tile, const AttentionSource& source, int64_t segment,
                          const int* index, const int* from, const int* to, bool merge) {
    if constexpr (kActive > 1)
      if (active < kActive)
        return active_rows<Cache, kActive - 1>(active, tile, source, segment, index, from, to, merge);
    Rows<kActive> rows{tile,   source, {}, {}, {}, segment * kSegmentTokens, source.pages + segment * kSegmentPages,
                       nullptr};
    for (int m = 0; m < kActive; ++m) {
      rows.index[m] = index[m];
      rows.from[m] = from[m];
      rows.to[m] = to[m];
    }
    segment_of<Cache>(rows, merge);
  }

  // ---- what the table offers ----

  static void attend(AttentionTile& tile, const AttentionSource& source, int64_t segment, bool merge) {
    int index[kRows], from[kRows], to[kRows], active = 0;
    for (int row = 0; row < tile.rows; ++row) {
      const int64_t begin = tile.first[row] - segment * kSegmentTokens, end = tile.last[row] - segment * kSegmentTokens;
      const int64_t a = begin > 0 ? begin : 0, b = end < kSegmentTokens ? end : kSegmentTokens;
      if (a >= b) continue;
      index[active] = row;
      from[active] = static_cast<int>(a);
      to[active] = static_cast<int>(b);
      ++active;
    }
    if (active == 0) return;
    switch (source.cache.dtype) {
      case DType::f32: return active_rows<CacheF32, kRows>(active, tile, source, segment, index, from, to, merge);
      case DType::f16: return active_rows<CacheF16, kRows>(active, tile, source, segment, index, from, to, merge);
      default: return active_rows<CacheBf16, kRows>(active, tile, source, segment, index, from, to, merge);
    }
  }

  static void merge(float* out, float& maximum, float& sum, const float* segment, float segment_maximum,
                    float segment_sum, int64_t head_dim) {
    float keep, add;
    merge_state(maximum, sum, segment_maximum, segment_sum, keep, add);
    for (int64_t d = 0; d < head_dim; d += 16) {
      const int lanes = head_dim - d < 16 ? static_cast<int>(head_dim - d) : 16;
      const Floats was = S::load_partial(out + d, lanes), comes = S::load_partial(segment + d, lanes);
      S::store_partial(out + d, merged(was, keep, comes, add), lanes);
    }
  }

  template <class Cache>
  static void write_token_of(void* keys, void* values, const float* k, const float* v, int64_t kv_heads,
                             int64_t head_dim) {
    typename Cache::Element lanes[16];
    auto* key = static_cast<typename Cache::Element*>(keys);
    auto* value = static_cast<typename Cache::Element*>(values);
    for (int64_t h = 0; h < kv_heads; ++h, k += head_dim, v += head_dim) {
      for (int64_t d = 0; d < head_dim; d += 16) {
        const int n = head_dim - d < 16 ? static_cast<int>(head_dim - d) : 16;
        Cache::store(lanes, S::load_partial(k + d, n));
        for (int i = 0; i < n; ++i) key[(d + i) * kPageTokens] = lanes[i];
        Cache::store(lanes, S::load_partial(v + d, n));
        for (int i = 0; i < n; ++i) value[d + i] = lanes[i];
      }
      key += head_dim * kPageTokens;
      value += head_dim * kPageTokens;
    }
  }
  // One token: keys and values point at its slot in head 0 of its page.
  static void write_token(void* keys, void* values, DType dtype, const float* k, const float* v, int64_t kv_heads,
                          int64_t head_dim) {
    switch (dtype) {
      case DType::f32: return write_token_of<CacheF32>(keys, values, k, v, kv_heads, head_dim);
      case DType::f16: return write_token_of<CacheF16>(keys, values, k, v, kv_heads, head_dim);
      default: return write_token_of<CacheBf16>(keys, values, k, v, kv_heads, head_dim);
    }
  }

  static constexpr AttentionKernels kTable{kRows, attend, merge, write_token};
};

}  // namespace lathe::cpu
