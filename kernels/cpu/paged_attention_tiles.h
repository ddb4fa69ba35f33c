// Tiles of the paged attention, a template over the simd struct (simd.h). Included by kernels_<isa>.cpp.
//
// A tile is a few query rows that share a key-value head, against one segment of 256 keys. Scores of 16 keys are one
// vector (keys lie transposed), and a row's work on a segment is the same sequence of operations whatever rows stand
// beside it: its dot products ascend in the component, its outputs in the key, and what it may not see never enters
// them, so that garbage behind a context's end, NaN included, does no harm.
//
// A tile alone (decoding) reads the pages as they lie. Several tiles of one head (prefill) have a few pages at a time
// widened to f32 into a panel that the first-level cache holds, and use it in turn: the same numbers, so the same bits.
//
// Source: Dao 2023, FlashAttention-2, algorithm 1; here a segment's maximum is known before its exponentials.
#pragma once
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/paged_attention_forms.h"
#include "kernels/cpu/vector_math.h"

namespace lathe::cpu {

template <class S>
struct AttentionTiles {
  using Floats = typename S::Floats;
  using Forms = CacheForms<S>;
  using Panel = typename Forms::Panel;
  static constexpr int kRows = S::kAttentionRows;
  static constexpr int kSegmentPages = kSegmentTokens / kPageTokens;
  static constexpr int kPanelPages = 4;
  // Pages whose scores, or vectors of a value's components, that are summed together: fewer rows leave registers for
  // more.
  static constexpr int beside(int active) {
    const int most = kRows * S::kAttentionPages / active;
    return most > 4 ? 4 : most;
  }

  // Some rows of a tile, and what they see of a segment: keys [from, to) relative to its start, none where from >= to.
  template <int kCount>
  struct Rows {
    AttentionTile* tile;
    const AttentionSource* source;
    float* scores;  // [kCount][kSegmentTokens], then the exponentials
    int64_t segment_start;
    int index[kCount];  // in the tile
    int from[kCount], to[kCount];
    int first, last;                  // the keys that any of them sees
    float keep[kCount], add[kCount];  // the factors of what was and of what the segment brings

    bool sees(int m) const { return from[m] < to[m]; }
  };

  // The keys [from, to) of a segment that a row of a tile sees.
  static LATHE_INLINE void seen(const AttentionTile& tile, int row, int64_t segment, int& from, int& to) {
    const int64_t begin = tile.first[row] - segment * kSegmentTokens, end = tile.last[row] - segment * kSegmentTokens;
    from = begin <= 0 ? 0 : begin < kSegmentTokens ? static_cast<int>(begin) : kSegmentTokens;
    to = end <= 0 ? 0 : end < kSegmentTokens ? static_cast<int>(end) : kSegmentTokens;
  }

  // ---- scores ----

  // Pages [page, page + kCount) of those before `end`. Few rows (decoding) wait for memory, and the hardware does not
  // follow from page to page: while keys are read, the next ones and the values of the same pages are fetched.
  template <int kCount, class View, int kActive>
  static LATHE_INLINE void score_pages(const Rows<kActive>& rows, const View& view, int page, int end) {
    using Form = typename View::Form;
    using Element = typename Form::Element;
    constexpr bool kFetch = View::kFar && kActive <= kRows / 2;
    constexpr int64_t kLine = 64 / (kPageTokens * static_cast<int>(sizeof(Element)));  // components of a cache line
    const int64_t head_dim = rows.source->head_dim, block = Form::kScaled ? Forms::kBlock : head_dim;
    Floats sum[kActive][kCount];
    const Element *keys[kCount], *next[kCount], *values[kCount];
    const float* q[kActive];
    LATHE_FOR(p, kCount) {
      keys[p] = view.keys(page + p);
      next[p] = kFetch && page + kCount + p < end ? view.keys(page + kCount + p) : keys[p];
      values[p] = view.values(page + p);
    }
    LATHE_FOR(m, kActive) {
      q[m] = rows.tile->q[rows.index[m]];
      LATHE_FOR(p, kCount) { sum[m][p] = S::zero(); }
    }
    for (int64_t begin = 0; begin < head_dim; begin += block) {
      [[maybe_unused]] Floats scale[kCount];
      if constexpr (Form::kScaled) {
        LATHE_FOR(p, kCount) {
          scale[p] = S::load_f16(view.key_scales(page + p, begin));
          if constexpr (kFetch) {
            __builtin_prefetch(next[p] + head_dim * kPageTokens + begin / Forms::kBlock * kPageTokens * 2);
            __builtin_prefetch(view.value_scales(page + p, begin));
          }
        }
      }
      const int64_t block_end = begin + block < head_dim ? begin + block : head_dim;
      for (int64_t d = begin; d < block_end; ++d) {
        Floats k[kCount];
        LATHE_FOR(p, kCount) {
          k[p] = Form::load(keys[p] + d * kPageTokens);
          if constexpr (Form::kScaled) k[p] = k[p] * scale[p];
        }
        if constexpr (kFetch) {
          if (kLine <= 1 || d % kLine == 0) {
            LATHE_FOR(p, kCount) {
              __builtin_prefetch(next[p] + d * kPageTokens);
              __builtin_prefetch(values[p] + d * kPageTokens);
            }
          }
        }
        LATHE_FOR(m, kActive) {
          const Floats qd = S::set1(q[m][d]);
          LATHE_FOR(p, kCount) { sum[m][p] = S::fma(k[p], qd, sum[m][p]); }
        }
      }
    }
    LATHE_FOR(m, kActive) {
      LATHE_FOR(p, kCount) { S::store(rows.scores + m * kSegmentTokens + (page + p) * kPageTokens, sum[m][p]); }
    }
  }
  template <class View, int kActive>
  static LATHE_INLINE void score(const Rows<kActive>& rows, const View& view, int page, int end) {
    constexpr int kPages = beside(kActive);
    for (; page + kPages <= end; page += kPages) score_pages<kPages>(rows, view, page, end);
    for (; page < end; ++page) score_pages<1>(rows, view, page, end);
  }

  static LATHE_INLINE Floats transform(Floats s, const ScoreOptions& options, float slope, float first_distance) {
    s = s * S::set1(options.scale);
    if (options.softcap != 0.0f)
      s = VectorMath<S>::tanh(s * S::set1(1.0f / options.softcap)) * S::set1(options.softcap);
    if (options.alibi_slopes != nullptr) {
      static constexpr float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      s = S::fma(S::set1(slope), S::load(kLane) + S::set1(first_distance), s);
    }
    return s;
  }

  // ---- merging of segments ----

  static LATHE_INLINE Floats merged(Floats out, float keep, Floats segment, float add) {
    return S::fma(segment, S::set1(add), out * S::set1(keep));
  }
  // The maxima and sums of up to 16 rows, one a lane: what a segment has is taken into the running ones. Gives the
  // factors of what was and of what comes.
  struct States {
    float maximum[16] = {}, sum[16] = {}, segment_maximum[16] = {}, segment_sum[16] = {}, keep[16] = {}, add[16] = {};

    // Lane i is row `row` of a tile.
    LATHE_INLINE void load(int i, const AttentionTile& tile, int row) {
      maximum[i] = tile.maximum[row];
      sum[i] = tile.sum[row];
    }
    // The merged state, or the segment's.
    LATHE_INLINE void save(int i, AttentionTile& tile, int row, bool merged) const {
      tile.maximum[row] = merged ? maximum[i] : segment_maximum[i];
      tile.sum[row] = merged ? sum[i] : segment_sum[i];
    }

    LATHE_INLINE void merge() {
      const Floats was = S::load(maximum), comes = S::load(segment_maximum), most = S::maximum(was, comes);
      const Floats kept = VectorMath<S>::exp(was - most), added = VectorMath<S>::exp(comes - most);
      S::store(sum, S::load(sum) * kept + S::load(segment_sum) * added);
      S::store(maximum, most);
      S::store(keep, kept);
      S::store(add, added);
    }
  };
  // How exponentials are kept, in place of the scores they come from.
  struct AsF32 {
    static LATHE_INLINE void store(float* row, int key, Floats e) { S::store(row + key, e); }
  };
  struct AsBf16 {
    static LATHE_INLINE void store(float* row, int key, Floats e) {
      S::store_rounded_bf16(reinterpret_cast<uint16_t*>(row) + key, e);
    }
  };
  // The products less the largest, where those are so far from zero that the rounding of `largest * factor` would be an
  // exponent of its own: up to 2^-15 of it is left to the fused multiply-add, beyond that the difference is exact.
  static constexpr float kFar = 1024.0f;
  LATHE_NOINLINE static void take_off(float* scores, int first_page, int last_page, float largest) {
    for (int key = first_page * kPageTokens; key < last_page * kPageTokens; key += kPageTokens)
      S::store(scores + key, S::load(scores + key) - S::set1(largest));
  }
  // Turns the products of all rows into exponentials, zero where a row sees nothing, and gives their maxima and sums
  // from lane `lane` on. The rows go through a page side by side, so that one's latencies are filled by the others;
  // none sees another. What scales a score and the exponential's base is one factor, of scores that nothing else is
  // done to.
  template <class Kept, int kActive>
  static void exponentials(const Rows<kActive>& rows, States& states, int lane) {
    constexpr float kLeast = -3.40282347e38f, kLog2E = 1.44269504f;
    const ScoreOptions& options = rows.source->options;
    const bool plain = options.softcap == 0.0f && options.alibi_slopes == nullptr && options.scale > 0.0f;
    const float factor = plain ? options.scale * kLog2E : kLog2E;
    const int first_page = rows.first / kPageTokens, last_page = (rows.last + kPageTokens - 1) / kPageTokens;
    int common_from = 0, common_to = kSegmentTokens;
    Floats most[kActive], total[kActive];
    LATHE_FOR(m, kActive) {
      most[m] = S::set1(kLeast);
      total[m] = S::zero();
      common_from = rows.from[m] > common_from ? rows.from[m] : common_from;
      common_to = rows.to[m] < common_to ? rows.to[m] : common_to;
    }
    for (int page = first_page; page < last_page; ++page) {
      const int key = page * kPageTokens;
      const bool border = key < common_from || key + kPageTokens > common_to;
      LATHE_FOR(m, kActive) {
        float* scores = rows.scores + m * kSegmentTokens + key;
        Floats s = S::load(scores);
        if (!plain) {
          const int row = rows.index[m];
          const float distance = static_cast<float>(rows.segment_start + key - (rows.tile->last[row] - 1));
          s = transform(s, options, rows.tile->slope[row], distance);
          S::store(scores, s);
        }
        if (border) s = S::keep_lanes(s, rows.from[m] - key, rows.to[m] - key, kLeast);
        most[m] = S::maximum(most[m], s);
      }
    }
    float offset[kActive];
    LATHE_FOR(m, kActive) {
      const float largest = S::largest(most[m]);
      offset[m] = -largest * factor;
      states.segment_maximum[lane + m] = plain ? largest * options.scale : largest;
      if ((offset[m] < -kFar || offset[m] > kFar) && rows.sees(m)) {
        take_off(rows.scores + m * kSegmentTokens, first_page, last_page, largest);
        offset[m] = 0.0f;
      }
    }
    for (int page = first_page; page < last_page; ++page) {
      const int key = page * kPageTokens;
      const bool border = key < common_from || key + kPageTokens > common_to;
      LATHE_FOR(m, kActive) {
        const Floats s = S::load(rows.scores + m * kSegmentTokens + key);
        Floats e = VectorMath<S>::exp2(S::fma(s, S::set1(factor), S::set1(offset[m])));
        if (border) e = S::keep_lanes(e, rows.from[m] - key, rows.to[m] - key, 0.0f);
        total[m] = total[m] + e;
        Kept::store(rows.scores + m * kSegmentTokens, key, e);
      }
    }
    LATHE_FOR(m, kActive) { states.segment_sum[lane + m] = S::sum(total[m]); }
  }
  // The same, merged into the tile's state or put in its place.
  template <int kActive>
  static LATHE_INLINE void normalise(Rows<kActive>& rows, bool merge) {
    AttentionTile& tile = *rows.tile;
    States states;
    exponentials<AsF32>(rows, states, 0);
    for (int m = 0; m < kActive; ++m) states.load(m, tile, rows.index[m]);
    if (merge) states.merge();
    for (int m = 0; m < kActive; ++m) {
      if (!rows.sees(m)) continue;
      states.save(m, tile, rows.index[m], merge);
      rows.keep[m] = states.keep[m];
      rows.add[m] = states.add[m];
    }
  }

  // ---- outputs ----

  // Adds the values of keys [from, to), weighted, to the sums of kCount vectors of components of kCounted rows;
  // `weights` is the first row's, and the rows' sums are `stride` apart.
  template <int kCounted, int kCount, class View>
  static LATHE_INLINE void add_values(float* sums, int64_t stride, const float* weights, const View& view, int64_t d,
                                      int from, int to) {
    Floats sum[kCounted][kCount];
    LATHE_FOR(m, kCounted) {
      LATHE_FOR(c, kCount) { sum[m][c] = S::load(sums + m * stride + c * 16); }
    }
    while (from < to) {
      const int page = from / kPageTokens, page_end = (page + 1) * kPageTokens, end = to < page_end ? to : page_end;
      const typename Forms::template Values<View, kCount> values(view, page, d);
      const auto* p = values.elements + (from - page * kPageTokens) * values.stride;
      for (; from < end; ++from, p += values.stride) {
        Floats value[kCount];
        LATHE_FOR(c, kCount) { value[c] = values.load(p, from - page * kPageTokens, c); }
        LATHE_FOR(m, kCounted) {
          const Floats weight = S::set1(weights[m * kSegmentTokens + from]);
          LATHE_FOR(c, kCount) { sum[m][c] = S::fma(value[c], weight, sum[m][c]); }
        }
      }
    }
    LATHE_FOR(m, kCounted) {
      LATHE_FOR(c, kCount) { S::store(sums + m * stride + c * 16, sum[m][c]); }
    }
  }
  template <int kCount, class View>
  LATHE_NOINLINE static void add_row(float* sums, const float* weights, const View& view, int64_t d, int from, int to) {
    add_values<1, kCount>(sums, 0, weights, view, d, from, to);
  }
  // The keys [begin, end) of a segment: what all rows see together, what only some see one by one, keys ascending. A
  // row that sees nothing of the segment may get anything.
  template <int kCount, class View, int kActive>
  static LATHE_INLINE void weigh(float* sums, int64_t stride, const Rows<kActive>& rows, const View& view, int64_t d,
                                 int begin, int end) {
    int common_from = begin, common_to = end;
    for (int m = 0; m < kActive; ++m) {
      if (!rows.sees(m)) continue;
      common_from = rows.from[m] > common_from ? rows.from[m] : common_from;
      common_to = rows.to[m] < common_to ? rows.to[m] : common_to;
    }
    if (common_from > common_to) common_from = common_to = end;  // nothing in common: all of it one by one
    const auto one_by_one = [&](int first, int last) {
      for (int m = 0; m < kActive; ++m) {
        const int from = rows.from[m] > first ? rows.from[m] : first, to = rows.to[m] < last ? rows.to[m] : last;
        if (from < to) add_row<kCount>(sums + m * stride, rows.scores + m * kSegmentTokens, view, d, from, to);
      }
    };
    one_by_one(begin, common_from);
    add_values<kActive, kCount>(sums, stride, rows.scores, view, d, common_from, common_to);
    one_by_one(common_to, end);
  }

  // f(d, count of vectors as a constant) over the components of a head.
  template <int kColumns, class F>
  static LATHE_INLINE void over_columns(int64_t head_dim, F f) {
    int64_t d = 0;
    for (; d + kColumns * 16 <= head_dim; d += kColumns * 16) f.template operator()<kColumns>(d);
    for (; d < head_dim; d += 16) f.template operator()<1>(d);
  }
  // Puts components of a row's segment at their place, or merges them into what is there.
  static LATHE_INLINE void put(float* out, int64_t d, int64_t head_dim, float keep, float add, Floats segment,
                               bool merge) {
    const int64_t left = head_dim - d;
    const int lanes = left < 16 ? static_cast<int>(left) : 16;
    if (merge) segment = merged(S::load_partial(out + d, lanes), keep, segment, add);
    S::store_partial(out + d, segment, lanes);
  }
  template <int kActive>
  static LATHE_INLINE void put(const Rows<kActive>& rows, int m, int64_t d, Floats segment, bool merge) {
    put(rows.tile->out[rows.index[m]], d, rows.source->head_dim, rows.keep[m], rows.add[m], segment, merge);
  }

  // ---- a tile alone ----

  template <class View, int kActive>
  static void attend_directly(Rows<kActive>& rows, const View& view, bool merge) {
    alignas(64) float scores[kActive * kSegmentTokens];
    rows.scores = scores;
    score(rows, view, rows.first / kPageTokens, (rows.last + kPageTokens - 1) / kPageTokens);
    normalise(rows, merge);
    over_columns<beside(kActive)>(
        rows.source->head_dim, [&]<int kCount>(int64_t d) __attribute__((always_inline)) {
          alignas(64) float sums[kActive][kCount * 16] = {};
          weigh<kCount>(sums[0], kCount * 16, rows, view, d, rows.first, rows.last);
          for (int m = 0; m < kActive; ++m) LATHE_FOR(c, kCount) {
              put(rows, m, d + c * 16, S::load(sums[m] + c * 16), merge);
            }
        });
  }

  // The rows [0, kActive) of `seeing`, each of which sees something.
  template <class View, int kActive>
  static void attend_active(int active, const Rows<kRows>& seeing, const View& view, bool merge) {
    if constexpr (kActive > 1)
      if (active < kActive) return attend_active<View, kActive - 1>(active, seeing, view, merge);
    Rows<kActive> rows;
    rows.tile = seeing.tile;
    rows.source = seeing.source;
    rows.segment_start = seeing.segment_start;
    rows.first = seeing.first;
    rows.last = seeing.last;
    for (int m = 0; m < kActive; ++m) {
      rows.index[m] = seeing.index[m];
      rows.from[m] = seeing.from[m];
      rows.to[m] = seeing.to[m];
    }
    attend_directly(rows, view, merge);
  }

  static void attend(AttentionTile& tile, const AttentionSource& source, int64_t segment, bool merge) {
    Rows<kRows> rows;
    rows.tile = &tile;
    rows.source = &source;
    rows.segment_start = segment * kSegmentTokens;
    rows.first = kSegmentTokens;
    rows.last = 0;
    int active = 0;
    for (int row = 0; row < tile.rows; ++row) {
      int from, to;
      seen(tile, row, segment, from, to);
      if (from >= to) continue;
      rows.index[active] = row;
      rows.from[active] = from;
      rows.to[active] = to;
      rows.first = from < rows.first ? from : rows.first;
      rows.last = to > rows.last ? to : rows.last;
      ++active;
    }
    if (active == 0) return;
    const int32_t* pages = source.pages + segment * kSegmentPages;
    Forms::with_form(source.cache.dtype, [&](auto form) {
      using View = typename Forms::template Pages<decltype(form)>;
      attend_active<View, kRows>(active, rows, View{source, pages}, merge);
    });
  }

  // ---- several tiles ----

  static constexpr int64_t whole_vectors(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

  // A panel of kPanelPages pages, and for each row its sums and its scores.
  static int64_t block_floats(int64_t head_dim, int64_t rows) {
    return whole_vectors(head_dim) * (kPanelPages * kPageTokens + rows) + rows * kSegmentTokens;
  }

  // Widens pages [page, page + count) of keys, or of values, into a panel.
  static Panel widen(float* floats, const AttentionSource& source, const int32_t* pages, int page, int count,
                     bool values) {
    const int64_t stride = whole_vectors(source.head_dim);
    Forms::with_form(source.cache.dtype, [&](auto form) {
      const typename Forms::template Pages<decltype(form)> view{source, pages};
      if (values)
        Forms::widen_values(floats, view, page, count, stride);
      else
        Forms::widen_keys(floats, view, page, count);
    });
    return {floats, page, source.head_dim, stride};
  }

  // Fetches a part of `parts` of the keys, or values, of pages [page, end), of which the hardware knows nothing.
  static LATHE_INLINE void fetch(const AttentionSource& source, const int32_t* pages, int page, int end, bool values,
                                 int part, int parts) {
    const auto* base = static_cast<const uint8_t*>(values ? source.cache.values : source.cache.keys);
    const int64_t from = source.head_stride * part / parts, to = source.head_stride * (part + 1) / parts;
    for (; page < end; ++page) {
      const uint8_t* head = base + pages[page] * source.cache.page_stride + source.kv_head * source.head_stride;
      for (int64_t byte = from; byte < to; byte += 64) __builtin_prefetch(head + byte);
    }
  }

  // Adds the values of a panel's keys [begin, end) to a tile's sums [row][stride].
  static void add_panel(float* sums, const Rows<kRows>& rows, const Panel& panel, int begin, int end) {
    over_columns<beside(kRows)>(
        panel.head_dim, [&]<int kCount>(int64_t d) __attribute__((always_inline)) {
          weigh<kCount>(sums + d, panel.stride, rows, panel, d, begin, end);
        });
  }

  static void attend_block(AttentionTile* tiles, int count, const AttentionSource& source, int64_t segment,
                           float* scratch) {
    Rows<kRows> all[AttentionTile::kBlockRows / kRows];
    const int64_t stride = whole_vectors(source.head_dim);
    float *panel_floats = scratch, *sums = panel_floats + kPanelPages * kPageTokens * stride;
    float* scores = sums + count * kRows * stride;
    int first = kSegmentTokens, last = 0;
    for (int t = 0; t < count; ++t) {
      Rows<kRows>& rows = all[t];
      rows.tile = &tiles[t];
      rows.source = &source;
      rows.scores = scores + t * kRows * kSegmentTokens;
      rows.segment_start = segment * kSegmentTokens;
      rows.first = kSegmentTokens;
      rows.last = 0;
      for (int m = 0; m < kRows; ++m) {
        rows.index[m] = m < tiles[t].rows ? m : 0;
        rows.from[m] = rows.to[m] = 0;
        if (m < tiles[t].rows) seen(tiles[t], m, segment, rows.from[m], rows.to[m]);
        if (!rows.sees(m)) continue;
        rows.first = rows.from[m] < rows.first ? rows.from[m] : rows.first;
        rows.last = rows.to[m] > rows.last ? rows.to[m] : rows.last;
      }
      first = rows.first < first ? rows.first : first;
      last = rows.last > last ? rows.last : last;
    }
    if (first >= last) return;

    const int32_t* pages = source.pages + segment * kSegmentPages;
    const int first_page = first / kPageTokens, end_page = (last + kPageTokens - 1) / kPageTokens;
    // f(panel, rows, begin, end) for the keys [begin, end) of each panel that each tile sees.
    const auto over_panels = [&](bool values, auto f) __attribute__((always_inline)) {
      for (int page = first_page; page < end_page; page += kPanelPages) {
        const int panel_pages = page + kPanelPages < end_page ? kPanelPages : end_page - page;
        const Panel panel = widen(panel_floats, source, pages, page, panel_pages, values);
        for (int t = 0; t < count; ++t) {
          const int begin = page * kPageTokens, end = begin + panel_pages * kPageTokens;
          const int from = all[t].first > begin ? all[t].first : begin, to = all[t].last < end ? all[t].last : end;
          if (from < to) f(panel, t, from, to);
          fetch(source, pages, page + kPanelPages,
                end_page < page + 2 * kPanelPages ? end_page : page + 2 * kPanelPages, values, t, count);
        }
      }
    };
    over_panels(
        false, [&](const Panel& panel, int t, int from, int to) __attribute__((always_inline)) {
          score(all[t], panel, from / kPageTokens, (to + kPageTokens - 1) / kPageTokens);
        });
    for (int t = 0; t < count; ++t) normalise(all[t], true);
    __builtin_memset(sums, 0, static_cast<size_t>(count * kRows * stride) * sizeof(float));
    over_panels(
        true, [&](const Panel& panel, int t, int from, int to)
                  __attribute__((always_inline)) { add_panel(sums + t * kRows * stride, all[t], panel, from, to); });
    for (int t = 0; t < count; ++t)
      for (int m = 0; m < kRows; ++m)
        for (int64_t d = 0; all[t].sees(m) && d < source.head_dim; d += 16)
          put(all[t], m, d, S::load(sums + (t * kRows + m) * stride + d), true);
  }

  // ---- what the table offers besides ----

  static void merge(float* out, float& maximum, float& sum, const float* segment, float segment_maximum,
                    float segment_sum, int64_t head_dim) {
    States states;
    states.maximum[0] = maximum;
    states.sum[0] = sum;
    states.segment_maximum[0] = segment_maximum;
    states.segment_sum[0] = segment_sum;
    states.merge();
    maximum = states.maximum[0];
    sum = states.sum[0];
    for (int64_t d = 0; d < head_dim; d += 16) {
      const int lanes = head_dim - d < 16 ? static_cast<int>(head_dim - d) : 16;
      const Floats was = S::load_partial(out + d, lanes), comes = S::load_partial(segment + d, lanes);
      S::store_partial(out + d, merged(was, states.keep[0], comes, states.add[0]), lanes);
    }
  }

  static constexpr AttentionKernels kKernels{kRows, attend, block_floats, attend_block, merge, Forms::write_token};
  static constexpr AttentionTable kTable{kKernels};
};

}  // namespace lathe::cpu
