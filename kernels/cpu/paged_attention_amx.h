// Tiles of the paged attention in AMX registers, over a cache of bf16. Included by kernels_amx.cpp.
//
// A tile is 16 query rows of one key-value head. It meets a segment of 256 keys in products of 16 rows x 32 components
// x 16 keys, then of 16 rows x 32 keys x 16 components. Queries and exponentials are rounded to bf16; sums, maxima and
// merges are those of the tiles of f32 (paged_attention_tiles.h). No row enters another's sums, and the few of a single
// decoded token take the steps of a tile with vectors (amx.h says what they are): so a row has the same bits in
// whatever company. That reads pages as they lie, and decodes after 4,096 tokens 1.19 times as fast as tiles do.
//
// What a row may not see has the weight zero, and zero is not enough where a value is not finite. Values that no row of
// a block sees are read as zeros; where one that only some see is not finite, the rows go one by one.
#pragma once
#include "kernels/cpu/amx.h"
#include "kernels/cpu/paged_attention_tiles.h"

namespace lathe::cpu {

template <class S>
struct AmxAttention {
  using Floats = typename S::Floats;
  using Ints = typename S::Ints;
  using Vector = AttentionTiles<S>;
  using View = typename CacheForms<S>::template Pages<typename CacheForms<S>::Bf16>;
  static constexpr int kRows = 16;   // of a tile; so many columns too
  static constexpr int kDepth = 32;  // components, or keys, that a tile adds up
  static constexpr int64_t kTileBytes = kRows * kDepth * 2;
  static constexpr int64_t kHeadDim = 512;  // widest head
  static constexpr int kKeyTiles = kSegmentTokens / kDepth;
  static constexpr int kFewRows = 6;  // up to here vectors are faster
  static constexpr int kQuad = 4;     // rows whose exponentials are taken side by side
  static constexpr int kAhead = 4;    // pages between what is read and what is fetched

  static constexpr int64_t depths(int64_t head_dim) { return (head_dim + kDepth - 1) / kDepth; }

  // Some tiles and one segment.
  struct Block {
    AttentionTile* tiles;
    int count;
    const AttentionSource& source;
    const int32_t* pages;
    int64_t segment_start;
    uint8_t* queries;  // [tile][component / 32][16][32] bf16
    float* scores;     // [row][256], then in place the exponentials: [row][512] bf16, of which half is used
    int first, last;   // the keys that any row sees
    int from[AttentionTile::kBlockRows], to[AttentionTile::kBlockRows];
    float keep[AttentionTile::kBlockRows], add[AttentionTile::kBlockRows];  // the factors of what was and of what comes

    Block(AttentionTile* tiles, int count, const AttentionSource& source, uint8_t* queries, float* scores)
        : tiles(tiles), count(count), source(source), queries(queries), scores(scores) {}
    int begin() const { return first / kDepth * kDepth; }
    int end() const { return (last + kDepth - 1) / kDepth * kDepth; }
    int64_t query_tile() const { return depths(source.head_dim) * kTileBytes; }
    int rows() const { return (count - 1) * kRows + tiles[count - 1].rows; }
    bool sees(int row) const { return from[row] < to[row]; }
  };

  // ---- products ----

  // c = a b for 1 or 2 tiles of a by 1 or 2 of b, over `depth` tiles of each. Strides are in bytes, those of c in
  // floats; a tile of b follows the one before it.
  struct Operands {
    const uint8_t* a;
    int64_t a_row, a_tile, a_depth;
    const uint8_t* b;
    int64_t b_tile;
    int64_t depth;
    float* c;
    int64_t c_row, c_tile, c_column;
  };
  template <int kA, int kB>
  static void multiply(const Operands& o) {
    Amx::zero<0>();
    if constexpr (kB == 2) Amx::zero<1>();
    if constexpr (kA == 2) Amx::zero<2>();
    if constexpr (kA == 2 && kB == 2) Amx::zero<3>();
    const uint8_t *a = o.a, *b = o.b;
    for (int64_t k = 0; k < o.depth; ++k, a += o.a_depth, b += kTileBytes) {
      Amx::load<4>(a, o.a_row);
      Amx::load<6>(b, 64);
      Amx::add_products_bf16<0, 4, 6>();
      if constexpr (kB == 2) {
        Amx::load<7>(b + o.b_tile, 64);
        Amx::add_products_bf16<1, 4, 7>();
      }
      if constexpr (kA == 2) {
        Amx::load<5>(a + o.a_tile, o.a_row);
        Amx::add_products_bf16<2, 5, 6>();
        if constexpr (kB == 2) Amx::add_products_bf16<3, 5, 7>();
      }
    }
    Amx::store<0>(o.c, o.c_row * 4);
    if constexpr (kB == 2) Amx::store<1>(o.c + o.c_column, o.c_row * 4);
    if constexpr (kA == 2) Amx::store<2>(o.c + o.c_tile, o.c_row * 4);
    if constexpr (kA == 2 && kB == 2) Amx::store<3>(o.c + o.c_tile + o.c_column, o.c_row * 4);
  }
  // The same for any number of tiles of a.
  template <int kB>
  static LATHE_INLINE void multiply(Operands o, int count) {
    for (; count >= 2; count -= 2, o.a += 2 * o.a_tile, o.c += 2 * o.c_tile) multiply<2, kB>(o);
    if (count == 1) multiply<1, kB>(o);
  }

  // ---- their parts ----

  // The queries of every tile, rounded; rows and components that are missing are zeros.
  static void pack_queries(const Block& block) {
    const int64_t head_dim = block.source.head_dim;
    for (int t = 0; t < block.count; ++t)
      for (int m = 0; m < kRows; ++m) {
        const bool there = m < block.tiles[t].rows;
        const float* q = block.tiles[t].q[there ? m : 0];
        uint8_t* to = block.queries + t * block.query_tile() + m * 64;
        for (int64_t d = 0; d < depths(head_dim) * kDepth; d += 16) {
          const int64_t left = there ? head_dim - d : 0, lanes = left < 0 ? 0 : left < 16 ? left : 16;
          S::store_rounded_bf16(to + d / kDepth * kTileBytes + d % kDepth * 2,
                                S::load_partial(lanes > 0 ? q + d : q, static_cast<int>(lanes)));
        }
      }
  }
  // The keys of a page as pairs of components: [component / 32][16][16 keys][2]. Line by line the next page's keys and
  // this one's values are fetched: no faster than keys are read, or the fetches would be waited for.
  static LATHE_INLINE void pack_keys(uint8_t* to, const uint16_t* keys, const uint16_t* next, const uint16_t* values,
                                     int64_t head_dim) {
    int64_t d = 0;
    for (; d + 2 <= head_dim; d += 2) {
      __builtin_prefetch(next + d * kPageTokens);
      __builtin_prefetch(values + d * kPageTokens);
      S::store_ints(to + d * 32, S::pair_rows(S::load_ints(keys + d * kPageTokens)));
    }
    if (d == depths(head_dim) * kDepth) return;
    if (d < head_dim) {
      alignas(64) uint16_t last[2 * kPageTokens] = {};
      __builtin_memcpy(last, keys + d * kPageTokens, 2 * kPageTokens);
      S::store_ints(to + d * 32, S::pair_rows(S::load_ints(last)));
      d += 2;
    }
    __builtin_memset(to + d * 32, 0, static_cast<size_t>((depths(head_dim) * kDepth - d) * 32));
  }
  // 32 components, from d on, of a page's values as pairs of keys: [8][16][2] of each half, `half` bytes apart; zeros
  // for keys outside [from, to) and components beyond the head.
  template <class Check>
  static LATHE_INLINE void pack_values(uint8_t* pairs, int64_t half, const uint16_t* values, int64_t head_dim,
                                       int64_t left, int from, int to, Check& check) {
    const bool whole = from <= 0 && kPageTokens <= to && left >= kDepth;
    for (int i = 0; i < kPageTokens; i += 2, pairs += 64) {
      Ints row[2];
      for (int j = 0; j < 2; ++j) {
        const uint16_t* p = values + (i + j) * head_dim;
        if (whole) [[likely]] {
          row[j] = S::load_ints(p);
        } else {
          alignas(64) uint16_t lanes[kDepth] = {};
          if (from <= i + j && i + j < to)
            __builtin_memcpy(lanes, p, static_cast<size_t>(2 * (left < kDepth ? left : kDepth)));
          row[j] = S::load_ints(lanes);
        }
        check.add(row[j]);
      }
      S::store_ints(pairs, S::pair_lower(row[0], row[1]));
      S::store_ints(pairs + half, S::pair_upper(row[0], row[1]));
    }
  }

  // ---- the steps ----

  static void score(const Block& block) {
    alignas(64) uint8_t keys[2 * kHeadDim / kDepth * kTileBytes];
    const View view{block.source, block.pages};
    const int64_t head_dim = block.source.head_dim, page_bytes = depths(head_dim) * kTileBytes;
    const int end = (block.last + kPageTokens - 1) / kPageTokens;
    for (int page = block.first / kPageTokens; page < end; page += 2) {
      const int count = page + 1 < end ? 2 : 1;
      for (int p = page; p < page + count; ++p)
        pack_keys(keys + (p - page) * page_bytes, view.keys(p), view.keys(p + kAhead < end ? p + kAhead : p),
                  view.values(p), head_dim);
      const Operands o{block.queries,
                       64,
                       block.query_tile(),
                       kTileBytes,
                       keys,
                       page_bytes,
                       depths(head_dim),
                       block.scores + page * kPageTokens,
                       kSegmentTokens,
                       kRows * kSegmentTokens,
                       kPageTokens};
      if (count == 2)
        multiply<2>(o, block.count);
      else
        multiply<1>(o, block.count);
    }
  }

  static void normalise(Block& block, bool merge) {
    for (int t = 0; t < block.count; ++t) {
      AttentionTile& tile = block.tiles[t];
      typename Vector::States states;
      for (int row = 0; row < tile.rows; row += kQuad) {
        typename Vector::template Rows<kQuad> rows;
        rows.tile = &tile;
        rows.source = &block.source;
        rows.scores = block.scores + (t * kRows + row) * kSegmentTokens;
        rows.segment_start = block.segment_start;
        rows.first = block.begin();
        rows.last = block.end();
        for (int m = 0; m < kQuad; ++m) {
          const bool there = row + m < tile.rows;
          rows.index[m] = there ? row + m : 0;
          rows.from[m] = there ? block.from[t * kRows + row + m] : 0;
          rows.to[m] = there ? block.to[t * kRows + row + m] : 0;
        }
        Vector::template exponentials<typename Vector::AsBf16>(rows, states, row);
      }
      for (int row = 0; row < tile.rows; ++row) states.load(row, tile, row);
      if (merge) states.merge();
      for (int row = 0; row < tile.rows; ++row) {
        if (!block.sees(t * kRows + row)) continue;
        states.save(row, tile, row, merge);
        block.keep[t * kRows + row] = states.keep[row];
        block.add[t * kRows + row] = states.add[row];
      }
    }
  }

  // 32 components, from d on, of the weighted values of keys [from, to), for rows [row0, row1). Whether the values are
  // finite; where they are not, nothing is done unless the row is alone.
  static bool weigh(const Block& block, int64_t d, int row0, int row1, int from, int to, bool merge) {
    constexpr int64_t kHalf = kKeyTiles * kTileBytes;
    alignas(64) uint8_t values[2 * kHalf];
    alignas(64) float out[AttentionTile::kBlockRows * kDepth];  // [row][32]
    const View view{block.source, block.pages};
    const int64_t head_dim = block.source.head_dim;
    typename S::Bf16Check check;
    for (int key = block.begin(); key < block.end(); key += kPageTokens) {
      uint8_t* pairs = values + key * 32;
      if (to <= key || key + kPageTokens <= from) {  // no row sees the page: it may be freed
        __builtin_memset(pairs, 0, kTileBytes / 2);
        __builtin_memset(pairs + kHalf, 0, kTileBytes / 2);
      } else {
        pack_values(pairs, kHalf, view.values(key / kPageTokens) + d, head_dim, head_dim - d, from - key, to - key,
                    check);
      }
    }
    if (!check.all_finite() && row1 - row0 > 1) return false;
    const int tile0 = row0 / kRows, tile1 = (row1 + kRows - 1) / kRows;
    multiply<2>({reinterpret_cast<const uint8_t*>(block.scores + tile0 * kRows * kSegmentTokens) + block.begin() * 2,
                 kSegmentTokens * 4, kRows * kSegmentTokens * 4, kDepth * 2, values + block.begin() * 32, kHalf,
                 (block.end() - block.begin()) / kDepth, out + tile0 * kRows * kDepth, kDepth, kRows * kDepth, kRows},
                tile1 - tile0);
    for (int row = row0; row < row1; ++row)
      for (int half = 0; block.sees(row) && half < 2 && d + half * 16 < head_dim; ++half)
        Vector::put(block.tiles[row / kRows].out[row % kRows], d + half * 16, head_dim, block.keep[row], block.add[row],
                    S::load(out + row * kDepth + half * 16), merge);
    return true;
  }

  // ---- few rows that see the same keys: the steps of a tile, spelt with vectors ----

  // A chain of fused multiply-adds over even components, or keys, and one over odd ones.
  struct Chains {
    Floats even = S::zero(), odd = S::zero();
    LATHE_INLINE Floats added_to(Floats sum) const { return sum + (even + odd); }
  };

  // q: [row][components] rounded, in f32. Pages [page, page + kCount) of those before `end`.
  template <int kActive, int kCount>
  static LATHE_INLINE void score_pages(const Block& block, const float* q, int page, int end) {
    const View view{block.source, block.pages};
    const int64_t head_dim = block.source.head_dim;
    const uint16_t *keys[kCount], *next[kCount], *values[kCount];
    LATHE_FOR(p, kCount) {
      keys[p] = view.keys(page + p);
      next[p] = page + kCount + p < end ? view.keys(page + kCount + p) : keys[p];
      values[p] = view.values(page + p);
    }
    for (int64_t begin = 0; begin < head_dim; begin += kDepth) {
      const int64_t stop = begin + kDepth < head_dim ? begin + kDepth : head_dim;
      Chains chains[kActive][kCount];
      for (int64_t d = begin; d < stop; d += 2) {
        LATHE_FOR(p, kCount) {
          __builtin_prefetch(next[p] + d * kPageTokens);
          __builtin_prefetch(values[p] + d * kPageTokens);
          const Floats even = S::load_bf16(keys[p] + d * kPageTokens);
          LATHE_FOR(m, kActive) { chains[m][p].even = S::fma(even, S::set1(q[m * kHeadDim + d]), chains[m][p].even); }
        }
        if (d + 1 == stop) break;
        LATHE_FOR(p, kCount) {
          const Floats odd = S::load_bf16(keys[p] + (d + 1) * kPageTokens);
          LATHE_FOR(m, kActive) { chains[m][p].odd = S::fma(odd, S::set1(q[m * kHeadDim + d + 1]), chains[m][p].odd); }
        }
      }
      LATHE_FOR(m, kActive) {
        LATHE_FOR(p, kCount) {
          float* scores = block.scores + m * kSegmentTokens + (page + p) * kPageTokens;
          S::store(scores, chains[m][p].added_to(begin == 0 ? S::zero() : S::load(scores)));
        }
      }
    }
  }
  // kCount vectors of components, from d on, of the weighted values.
  template <int kActive, int kCount>
  static LATHE_INLINE void weigh_columns(const Block& block, int64_t d, bool merge) {
    const View view{block.source, block.pages};
    const int64_t head_dim = block.source.head_dim, left = head_dim - d;
    const int lanes = left < 16 ? static_cast<int>(left) : 16;
    Floats sum[kActive][kCount];
    LATHE_FOR(m, kActive) {
      LATHE_FOR(c, kCount) { sum[m][c] = S::zero(); }
    }
    for (int begin = block.begin(); begin < block.end(); begin += kDepth) {
      const int from = begin < block.first ? block.first : begin;
      const int to = begin + kDepth < block.last ? begin + kDepth : block.last;
      Chains chains[kActive][kCount];
      const auto add = [&]<bool kOdd>(int key) __attribute__((always_inline)) {
        const uint16_t* values = view.values(key / kPageTokens) + key % kPageTokens * head_dim + d;
        LATHE_FOR(c, kCount) {
          const Floats value = kCount > 1 || lanes == 16 ? S::load_bf16(values + c * 16) : load_short(values, lanes);
          LATHE_FOR(m, kActive) {
            Floats& chain = kOdd ? chains[m][c].odd : chains[m][c].even;
            chain = S::fma(value, S::set1(block.scores[m * kSegmentTokens + key]), chain);
          }
        }
      };
      int key = from;
      if (key % 2 != 0 && key < to) add.template operator()<true>(key++);
      for (; key + 2 <= to; key += 2) {
        add.template operator()<false>(key);
        add.template operator()<true>(key + 1);
      }
      if (key < to) add.template operator()<false>(key);
      LATHE_FOR(m, kActive) {
        LATHE_FOR(c, kCount) { sum[m][c] = chains[m][c].added_to(sum[m][c]); }
      }
    }
    LATHE_FOR(m, kActive) {
      LATHE_FOR(c, kCount) {
        Vector::put(block.tiles[0].out[m], d + c * 16, head_dim, block.keep[m], block.add[m], sum[m][c], merge);
      }
    }
  }
  static LATHE_INLINE Floats load_short(const uint16_t* p, int lanes) {
    alignas(64) uint16_t all[16] = {};
    __builtin_memcpy(all, p, static_cast<size_t>(2 * lanes));
    return S::load_bf16(all);
  }

  template <int kActive>
  static void attend_few(Block& block, bool merge) {
    constexpr int kPages = kActive <= 3 ? 4 : 2;
    alignas(64) float q[kActive * kHeadDim];
    const int64_t head_dim = block.source.head_dim;
    for (int m = 0; m < kActive; ++m)
      for (int64_t d = 0; d < head_dim; d += 16) {
        uint16_t rounded[16];
        S::store_rounded_bf16(
            rounded, S::load_partial(block.tiles[0].q[m] + d, head_dim - d < 16 ? static_cast<int>(head_dim - d) : 16));
        S::store(q + m * kHeadDim + d, S::load_bf16(rounded));
      }
    const unsigned int before = S::ignore_subnormals();
    const int end = (block.last + kPageTokens - 1) / kPageTokens;
    int page = block.first / kPageTokens;
    for (; page + kPages <= end; page += kPages) score_pages<kActive, kPages>(block, q, page, end);
    for (; page < end; ++page) score_pages<kActive, 1>(block, q, page, end);
    S::restore(before);
    normalise(block, merge);
    for (int m = 0; m < kActive; ++m)  // the weights as f32, from the last on, in place
      for (int key = block.end() - kPageTokens; key >= block.begin(); key -= kPageTokens) {
        float* weights = block.scores + m * kSegmentTokens;
        S::store(weights + key, S::load_bf16(reinterpret_cast<const uint16_t*>(weights) + key));
      }
    S::ignore_subnormals();
    int64_t d = 0;
    for (; d + kDepth <= head_dim; d += kDepth) weigh_columns<kActive, 2>(block, d, merge);
    for (; d < head_dim; d += 16) weigh_columns<kActive, 1>(block, d, merge);
    S::restore(before);
  }
  template <int kActive = kFewRows>
  static void with_few(Block& block, bool merge) {
    if constexpr (kActive > 1)
      if (block.rows() < kActive) return with_few<kActive - 1>(block, merge);
    attend_few<kActive>(block, merge);
  }

  // ---- a segment ----

  static void attend(Block& block, int64_t segment, bool merge) {
    const int rows = block.rows();
    block.first = kSegmentTokens;
    block.last = 0;
    for (int row = 0; row < rows; ++row) {
      Vector::seen(block.tiles[row / kRows], row % kRows, segment, block.from[row], block.to[row]);
      if (!block.sees(row)) continue;
      block.first = block.from[row] < block.first ? block.from[row] : block.first;
      block.last = block.to[row] > block.last ? block.to[row] : block.last;
    }
    if (block.first >= block.last) return;
    block.pages = block.source.pages + segment * Vector::kSegmentPages;
    block.segment_start = segment * kSegmentTokens;
    bool alike = rows <= kFewRows;
    for (int row = 1; alike && row < rows; ++row)
      alike = block.from[row] == block.from[0] && block.to[row] == block.to[0];
    if (alike) return with_few(block, merge);

    // The fewer rows, the sooner a product is done.
    const int tile_rows = block.count == 1 ? (rows + kQuad - 1) / kQuad * kQuad : kRows;
    TileShapes shapes;
    LATHE_FOR(tile, 8) {
      shapes.rows[tile] = static_cast<uint8_t>(tile < 6 ? tile_rows : kRows);
      shapes.row_bytes[tile] = 64;
    }
    Amx::configure(shapes);
    pack_queries(block);
    score(block);
    normalise(block, merge);
    for (int64_t d = 0; d < block.source.head_dim; d += kDepth) {
      if (weigh(block, d, 0, rows, block.first, block.last, merge)) continue;
      for (int row = 0; row < rows; ++row)
        if (block.sees(row)) weigh(block, d, row, row + 1, block.from[row], block.to[row], merge);
    }
    Amx::release();
  }

  // ---- what the table offers ----

  static void attend_tile(AttentionTile& tile, const AttentionSource& source, int64_t segment, bool merge) {
    alignas(64) uint8_t queries[kHeadDim / kDepth * kTileBytes];
    alignas(64) float scores[kRows * kSegmentTokens];
    Block block(&tile, 1, source, queries, scores);
    attend(block, segment, merge);
  }
  static int64_t block_floats(int64_t head_dim, int64_t rows) {
    return rows * (kSegmentTokens + depths(head_dim) * kDepth / 2);
  }
  static void attend_block(AttentionTile* tiles, int count, const AttentionSource& source, int64_t segment,
                           float* scratch) {
    auto* queries = reinterpret_cast<uint8_t*>(scratch + count * kRows * kSegmentTokens);
    Block block(tiles, count, source, queries, scratch);
    attend(block, segment, true);
  }

  // What merges and writes is the same beside these tiles.
  static AttentionKernels kernels(const AttentionKernels& vectors) {
    return {kRows, attend_tile, block_floats, attend_block, vectors.merge, vectors.write_token};
  }
};

}  // namespace lathe::cpu
