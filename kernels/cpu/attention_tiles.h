// Attention of training over one sequence and head, forward and backward, a template over the simd struct (simd.h).
// Included by training_<isa>.cpp. FlashAttention-2 (Dao 2023, algorithms 1 and 2) on its head: a tile has some queries
// as the lanes of vectors and its keys as rows, so that maximum, sum and mask of a query are lanes, and what a tile
// gives is packed already for the products that follow (gemm_tiles.h):
//   scores^T = K Q^T,  P^T = exp(scores^T - logsumexp),  out^T += V^T P^T
//   dP^T = V dout^T,   dS^T = P^T (dP^T - delta) slope,  dV += P^T dout,  dK += dS^T Q,  dQ^T += K^T dS^T
// with delta the sums of dout * out. Scores are kept as powers of two.
#pragma once
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/vector_math.h"

namespace lathe::cpu {

template <class S>
struct SequenceAttention {
  using Floats = typename S::Floats;
  using Tiles = GemmTiles<S, GemmForm::exact>;
  static constexpr int kRows = Tiles::kRows, kQueries = Tiles::kColumns, kGroups = S::kFloatGroups;
  static constexpr int64_t kKeys = 480;  // most keys of a tile, a multiple of kRows; a sequence is walked by them
  static constexpr float kLog2E = 1.44269504f, kLn2 = 0.69314718f;
  static constexpr float kUnseen = -1e30f;  // a score that vanishes beside any other, and is no infinity

  static int64_t divided(int64_t n, int64_t by) { return (n + by - 1) / by; }
  // Strips of `width` with `depth` elements each that hold `count` rows.
  static int64_t packed_floats(int64_t count, int width, int64_t depth) {
    return divided(count, width) * Tiles::strip_floats(depth, width);
  }
  static int64_t aligned(int64_t floats) { return divided(floats, 16) * 16; }

  // rows (count, dim) as strips of rows, or of columns.
  template <int kWidth>
  static void pack_strips_of_rows(float* to, const float* x, int64_t ld, int64_t count, int64_t dim) {
    Tiles::template pack<kWidth>(to, {x, ld, false, count, dim}, {0, divided(count, kWidth), 0, dim}, nullptr);
  }
  template <int kWidth>
  static void pack_strips_of_columns(float* to, const float* x, int64_t ld, int64_t count, int64_t dim) {
    Tiles::template pack<kWidth>(to, {x, ld, true, dim, count}, {0, divided(dim, kWidth), 0, count}, nullptr);
  }

  // ---- tiles of scores ----

  struct Range {
    int64_t query, key0, key1;  // queries from `query` on against keys [key0, key1)
    LATHE_INLINE int64_t keys() const { return key1 - key0; }
  };
  // f(range) for every tile of keys that queries [query, query + kQueries) see any of, ascending; borders are multiples
  // of kRows.
  template <class F>
  static LATHE_INLINE void over_keys(const SequenceHead& h, int64_t query, F f) {
    const int64_t last = query + kQueries < h.tokens ? query + kQueries : h.tokens;
    const int64_t seen = h.options.window > 0 && query >= h.options.window ? query - h.options.window + 1 : 0;
    for (int64_t key = seen / kRows * kRows; key < last; key += kKeys)
      f(Range{query, key, key + kKeys < last ? key + kKeys : last});
  }

  // to (keys, kQueries) = the rows of strips x from key0 on times the strip of queries.
  static LATHE_INLINE void keys_by_queries(float* to, const float* x, const float* queries, const Range& r,
                                           int64_t dim) {
    const float* strip = x + r.key0 / kRows * Tiles::strip_floats(dim, kRows);
    for (int64_t key = r.key0; key < r.key1; key += kRows, strip += Tiles::strip_floats(dim, kRows)) {
      const int rows = Tiles::clamped(r.key1 - key, kRows);
      Tiles::template tile<kGroups>({to + (key - r.key0) * kQueries, kQueries, nullptr, false}, strip, queries, dim,
                                    rows, kQueries);
    }
  }
  // to (dim, kQueries) = or += columns of keys [key0, key1), packed for `tokens`, times a tile.
  static LATHE_INLINE void columns_by_queries(float* to, const float* x, const float* tile, const Range& r,
                                              int64_t tokens, int64_t dim, bool accumulate) {
    for (int64_t d = 0; d < dim; d += kRows, x += Tiles::strip_floats(tokens, kRows))
      Tiles::template tile<kGroups>({to + d * kQueries, kQueries, nullptr, accumulate}, x + r.key0 * kRows, tile,
                                    r.keys(), Tiles::clamped(dim - d, kRows), kQueries);
  }
  // to (keys, dim) += a tile times `queries` rows x, packed as strips of columns.
  static LATHE_INLINE void tile_by_columns(float* to, int64_t ld, const float* tile, const float* x, const Range& r,
                                           int64_t queries, int64_t dim) {
    for (int64_t d = 0; d < dim; d += kQueries, x += Tiles::strip_floats(queries, kQueries))
      for (int64_t key = 0; key < r.keys(); key += kRows) {
        const GemmOutput out{to + (r.key0 + key) * ld + d, ld, nullptr, true};
        const float* a = tile + key * kQueries;
        const int rows = Tiles::clamped(r.keys() - key, kRows);
        if (kGroups > 1 && dim - d <= 16)
          Tiles::template tile<1, kQueries, 1>(out, a, x, queries, rows, dim - d);
        else
          Tiles::template tile<kGroups, kQueries, 1>(out, a, x, queries, rows, dim - d);
      }
  }

  // f(key, group, lanes seen) for each vector of a tile: the queries that see a key are lanes [first, last).
  struct Lanes {
    int first, last;
    LATHE_INLINE bool all() const { return first <= 0 && last >= 16; }
  };
  template <class F>
  static LATHE_INLINE void over_scores(const SequenceHead& h, const Range& r, F f) {
    for (int64_t key = r.key0; key < r.key1; ++key) LATHE_FOR(g, kGroups) {
        const int64_t lane = key - r.query - 16 * g;  // the lane of the query that stands at the key
        const int first = lane > 16 ? 16 : lane < 0 ? 0 : static_cast<int>(lane);
        const int64_t end = lane + h.options.window;
        const int last = h.options.window == 0 || end > 16 ? 16 : end < 0 ? 0 : static_cast<int>(end);
        f(key, g, Lanes{first, last});
      }
  }

  // What a product q k becomes: a power of two of the softmax; `slope` its derivative, in scores.
  struct Score {
    Floats scale, cap, inverse_cap, alibi;
    bool capped, biased;
    explicit LATHE_INLINE Score(const SequenceHead& h)
        : scale(S::set1(h.options.scale * (h.options.softcap > 0 ? 1.0f : kLog2E))),
          cap(S::set1(h.options.softcap * kLog2E)),
          inverse_cap(S::set1(h.options.softcap > 0 ? 1.0f / h.options.softcap : 0.0f)),
          alibi(S::set1(h.slope * kLog2E)),
          capped(h.options.softcap > 0),
          biased(h.slope != 0) {}
    LATHE_INLINE Floats operator()(Floats product, int64_t key, int64_t query, Floats* slope) const {
      Floats v = product * scale;
      if (capped) {
        const Floats t = VectorMath<S>::tanh(v * inverse_cap);
        if (slope != nullptr) *slope = S::set1(1.0f) - t * t;
        v = t * cap;
      }
      if (biased) {
        alignas(64) float distance[16];
        LATHE_FOR(i, 16) { distance[i] = static_cast<float>(key - query - i); }
        v = S::fma(alibi, S::load(distance), v);
      }
      return v;
    }
  };

  // rows (lanes, dim) with stride ld = the columns of x (dim, kQueries), each times its factor.
  static LATHE_INLINE void turn_into_rows(float* rows, int64_t ld, const float* x, const Floats (&factor)[kGroups],
                                          int64_t dim, int64_t queries) {
    LATHE_FOR(g, kGroups) {
      for (int64_t d = 0; d < dim; d += 16) {
        Floats square[16];
        const int columns = Tiles::clamped(dim - d, 16), lanes = Tiles::clamped(queries - 16 * g, 16);
        LATHE_FOR(i, 16) { square[i] = i < columns ? S::load(x + (d + i) * kQueries + 16 * g) * factor[g] : S::zero(); }
        S::template transpose<16>(square);
        LATHE_FOR(i, 16) {
          if (i < lanes) S::store_partial(rows + (16 * g + i) * ld + d, square[i], columns);
        }
      }
    }
  }

  // ---- forward ----

  // Scratch: the keys as strips of rows, the values as strips of columns; a tile of queries, of scores and of outputs.
  struct ForwardScratch {
    float *keys, *values, *queries, *scores, *out;
    int64_t floats = 0;
    ForwardScratch(float* at, int64_t tokens, int64_t dim) {
      keys = take(at, floats, packed_floats(tokens, kRows, dim));
      values = take(at, floats, packed_floats(dim, kRows, tokens));
      queries = take(at, floats, packed_floats(kQueries, kQueries, dim));
      scores = take(at, floats, (kKeys + kRows) * kQueries);
      out = take(at, floats, (dim + kRows) * kQueries);
    }
  };
  // The next floats of scratch, which is null where only its size is asked for.
  static float* take(float* scratch, int64_t& used, int64_t floats) {
    float* const begin = scratch != nullptr ? scratch + used : nullptr;
    used += aligned(floats);
    return begin;
  }
  static int64_t forward_floats(int64_t tokens, int64_t dim) { return ForwardScratch(nullptr, tokens, dim).floats; }

  static void forward(float* out, int64_t ldo, float* logsumexp, int64_t ldl, const SequenceHead& h, float* scratch) {
    const ForwardScratch s(scratch, h.tokens, h.dim);
    pack_strips_of_rows<kRows>(s.keys, h.k, h.ldk, h.tokens, h.dim);
    pack_strips_of_columns<kRows>(s.values, h.v, h.ldv, h.tokens, h.dim);
    for (int64_t query = 0; query < h.tokens; query += kQueries)
      forward_tile(out + query * ldo, ldo, logsumexp + query * ldl, ldl, h, s, query);
  }

  LATHE_NOINLINE static void forward_tile(float* out, int64_t ldo, float* logsumexp, int64_t ldl, const SequenceHead& h,
                                          const ForwardScratch& s, int64_t query) {
    const int64_t queries = h.tokens - query < kQueries ? h.tokens - query : kQueries;
    pack_strips_of_rows<kQueries>(s.queries, h.q + query * h.ldq, h.ldq, queries, h.dim);
    Floats maximum[kGroups], sum[kGroups];
    LATHE_FOR(g, kGroups) {
      maximum[g] = S::set1(kUnseen);
      sum[g] = S::zero();
    }
    bool first = true;
    over_keys(h, query, [&](const Range& r) {
      keys_by_queries(s.scores, s.keys, s.queries, r, h.dim);
      softmax_tile(s.scores, s.out, maximum, sum, h, r, first);
      columns_by_queries(s.out, s.values, s.scores, r, h.tokens, h.dim, !first);
      first = false;
    });
    Floats inverse[kGroups];
    alignas(64) float lanes[2][16];
    LATHE_FOR(g, kGroups) {
      inverse[g] = S::set1(1.0f) / sum[g];
      S::store(lanes[0], maximum[g]);
      S::store(lanes[1], sum[g]);
      for (int i = 0; i < Tiles::clamped(queries - 16 * g, 16); ++i)
        logsumexp[(16 * g + i) * ldl] = lanes[0][i] * kLn2 + __builtin_logf(lanes[1][i]);
    }
    turn_into_rows(out, ldo, s.out, inverse, h.dim, queries);
  }

  // Turns products into weights, not yet divided by their sum; what earlier tiles gave is taken to the new maximum.
  static LATHE_INLINE void softmax_tile(float* scores, float* out, Floats (&maximum)[kGroups], Floats (&sum)[kGroups],
                                        const SequenceHead& h, const Range& r, bool first) {
    const Score score(h);
    Floats before[kGroups];
    LATHE_FOR(g, kGroups) { before[g] = maximum[g]; }
    over_scores(
        h, r, [&](int64_t key, int g, Lanes seen) __attribute__((always_inline)) {
          float* at = scores + (key - r.key0) * kQueries + 16 * g;
          Floats v = score(S::load(at), key, r.query + 16 * g, nullptr);
          if (!seen.all()) v = S::keep_lanes(v, seen.first, seen.last, kUnseen);
          S::store(at, v);
          maximum[g] = S::maximum(v, maximum[g]);
        });
    LATHE_FOR(g, kGroups) {
      const Floats shrink = VectorMath<S>::exp2(before[g] - maximum[g]);
      sum[g] = sum[g] * shrink;
      if (first) continue;
      for (int64_t d = 0; d < h.dim; ++d) {
        float* at = out + d * kQueries + 16 * g;
        S::store(at, S::load(at) * shrink);
      }
    }
    for (int64_t i = 0; i < r.keys(); ++i) LATHE_FOR(g, kGroups) {
        float* at = scores + i * kQueries + 16 * g;
        const Floats p = VectorMath<S>::exp2(S::load(at) - maximum[g]);
        S::store(at, p);
        sum[g] = sum[g] + p;
      }
  }

  // ---- backward ----

  // Scratch: keys and values as strips of rows, keys as strips of columns; a tile of queries and of dout as either; a
  // tile of weights, of the scores' gradients and of the queries'.
  struct BackwardScratch {
    float *keys, *values, *key_columns, *queries, *douts, *query_columns, *dout_columns, *weights, *dscores, *dq;
    int64_t floats = 0;
    BackwardScratch(float* at, int64_t tokens, int64_t dim) {
      keys = take(at, floats, packed_floats(tokens, kRows, dim));
      values = take(at, floats, packed_floats(tokens, kRows, dim));
      key_columns = take(at, floats, packed_floats(dim, kRows, tokens));
      queries = take(at, floats, packed_floats(kQueries, kQueries, dim));
      douts = take(at, floats, packed_floats(kQueries, kQueries, dim));
      query_columns = take(at, floats, packed_floats(dim, kQueries, kQueries));
      dout_columns = take(at, floats, packed_floats(dim, kQueries, kQueries));
      weights = take(at, floats, (kKeys + kRows) * kQueries);
      dscores = take(at, floats, (kKeys + kRows) * kQueries);
      dq = take(at, floats, (dim + kRows) * kQueries);
    }
  };
  static int64_t backward_floats(int64_t tokens, int64_t dim) { return BackwardScratch(nullptr, tokens, dim).floats; }

  // `first`: of the heads that share keys and values; the later ones find them packed and add to dk and dv.
  static void backward(const SequenceGradients& g, const SequenceHead& h, float* scratch, bool first) {
    const BackwardScratch s(scratch, h.tokens, h.dim);
    if (first) {
      pack_strips_of_rows<kRows>(s.keys, h.k, h.ldk, h.tokens, h.dim);
      pack_strips_of_rows<kRows>(s.values, h.v, h.ldv, h.tokens, h.dim);
      pack_strips_of_columns<kRows>(s.key_columns, h.k, h.ldk, h.tokens, h.dim);
      for (int64_t i = 0; i < h.tokens; ++i) {
        __builtin_memset(g.dk + i * g.lddk, 0, static_cast<size_t>(h.dim) * sizeof(float));
        __builtin_memset(g.dv + i * g.lddv, 0, static_cast<size_t>(h.dim) * sizeof(float));
      }
    }
    for (int64_t query = 0; query < h.tokens; query += kQueries) backward_tile(g, h, s, query);
  }

  LATHE_NOINLINE static void backward_tile(const SequenceGradients& g, const SequenceHead& h, const BackwardScratch& s,
                                           int64_t query) {
    const int64_t queries = h.tokens - query < kQueries ? h.tokens - query : kQueries;
    const float *q = h.q + query * h.ldq, *dout = g.dout + query * g.ldo, *out = g.out + query * g.ldo;
    pack_strips_of_rows<kQueries>(s.queries, q, h.ldq, queries, h.dim);
    pack_strips_of_rows<kQueries>(s.douts, dout, g.ldo, queries, h.dim);
    pack_strips_of_columns<kQueries>(s.query_columns, q, h.ldq, queries, h.dim);
    pack_strips_of_columns<kQueries>(s.dout_columns, dout, g.ldo, queries, h.dim);
    alignas(64) float logsumexp[kQueries] = {}, delta[kQueries] = {};
    for (int64_t i = 0; i < queries; ++i) {
      logsumexp[i] = g.logsumexp[(query + i) * g.ldl] * kLog2E;
      Floats sum = S::zero();
      for (int64_t d = 0; d < h.dim; d += 16) {
        const int lanes = Tiles::clamped(h.dim - d, 16);
        sum = S::fma(S::load_partial(dout + i * g.ldo + d, lanes), S::load_partial(out + i * g.ldo + d, lanes), sum);
      }
      delta[i] = S::sum(sum);
    }
    bool first = true;
    over_keys(h, query, [&](const Range& r) {
      keys_by_queries(s.weights, s.keys, s.queries, r, h.dim);
      keys_by_queries(s.dscores, s.values, s.douts, r, h.dim);
      gradient_tile(s, logsumexp, delta, h, r);
      tile_by_columns(g.dv, g.lddv, s.weights, s.dout_columns, r, queries, h.dim);
      tile_by_columns(g.dk, g.lddk, s.dscores, s.query_columns, r, queries, h.dim);
      columns_by_queries(s.dq, s.key_columns, s.dscores, r, h.tokens, h.dim, !first);
      first = false;
    });
    Floats one[kGroups];
    LATHE_FOR(i, kGroups) { one[i] = S::set1(1.0f); }
    turn_into_rows(g.dq + query * g.lddq, g.lddq, s.dq, one, h.dim, queries);
  }

  // Products of queries and keys become weights, those of dout and values the gradients of the former.
  static LATHE_INLINE void gradient_tile(const BackwardScratch& s, const float* logsumexp, const float* delta,
                                         const SequenceHead& h, const Range& r) {
    const Score score(h);
    const Floats scale = S::set1(h.options.scale);
    over_scores(
        h, r, [&](int64_t key, int g, Lanes seen) __attribute__((always_inline)) {
          const int64_t at = (key - r.key0) * kQueries + 16 * g;
          Floats slope = S::set1(1.0f);
          const Floats v = score(S::load(s.weights + at), key, r.query + 16 * g, &slope);
          Floats p = VectorMath<S>::exp2(v - S::load(logsumexp + 16 * g));
          if (!seen.all()) p = S::keep_lanes(p, seen.first, seen.last, 0.0f);
          S::store(s.weights + at, p);
          S::store(s.dscores + at, p * (S::load(s.dscores + at) - S::load(delta + 16 * g)) * scale * slope);
        });
  }

  static constexpr SequenceAttentionKernels kKernels{forward_floats, backward_floats, forward, backward};
};

}  // namespace lathe::cpu
