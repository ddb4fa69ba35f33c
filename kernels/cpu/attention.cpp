// Attention over packed sequences by tiles of queries and keys, forward and backward (FlashAttention-2, Dao 2023,
// algorithms 1 and 2). Scores of a tile live on the stack and are products of small matrices; the backward computes
// them again from the saved logsumexp. A query sees one range of keys, so a tile is masked by its range's borders and
// never holds an infinity.
#include "kernels/attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/gemm_tile.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

constexpr int64_t kQueries = 32, kKeys = 64;  // of a tile

// One sequence, one query head; rows are tokens.
template <class T>
struct Head {
  const T *q, *k, *v;
  int64_t ldq, ldk, ldv;
  int64_t tokens, dim;
  T scale, softcap, slope;
  int64_t window;

  // Keys that query i sees: [first_key(i), i].
  int64_t first_key(int64_t i) const { return window > 0 ? std::max<int64_t>(0, i - window + 1) : 0; }
};

template <class T>
Head<T> head_of(const PackedSequences& s, const ScoreOptions& options, int64_t sequence, int64_t head, ConstRows<T> q,
                ConstRows<T> k, ConstRows<T> v) {
  const int64_t first = s.seq_start[sequence], kv_head = head / (s.heads / s.kv_heads);
  Head<T> h;
  h.q = q[first] + head * s.head_dim;
  h.k = k[first] + kv_head * s.head_dim;
  h.v = v.data ? v[first] + kv_head * s.head_dim : nullptr;
  h.ldq = q.stride, h.ldk = k.stride, h.ldv = v.stride;
  h.tokens = s.seq_start[sequence + 1] - first;
  h.dim = s.head_dim;
  h.scale = static_cast<T>(options.scale), h.softcap = static_cast<T>(options.softcap);
  h.slope = options.alibi_slopes ? static_cast<T>(options.alibi_slopes[head]) : T(0);
  h.window = options.window;
  return h;
}

// A tile: queries [query, query + rows) against keys [key, key + columns).
struct Tile {
  int64_t query, rows, key, columns;
};

// The keys of the tile that its row i sees, as columns [begin, end) of the tile.
struct Columns {
  int64_t begin, end;
};
template <class T>
Columns visible(const Head<T>& h, const Tile& tile, int64_t i) {
  const int64_t query = tile.query + i;
  const int64_t begin = std::clamp<int64_t>(h.first_key(query) - tile.key, 0, tile.columns);
  return {begin, std::clamp<int64_t>(query + 1 - tile.key, begin, tile.columns)};
}

// f(tile) for every tile of keys that queries [query, query + rows) see any of, in ascending order.
template <class T, class F>
void for_key_tiles(const Head<T>& h, int64_t query, int64_t rows, F&& f) {
  for (int64_t key = h.first_key(query) / kKeys * kKeys; key < query + rows; key += kKeys)
    f(Tile{query, rows, key, std::min(kKeys, query + rows - key)});
}

// scores (rows, kKeys) of the tile: softcapped, with ALiBi's bias. Where `slopes` is not null it takes the derivative
// of a score by q k^T.
template <class T>
void tile_scores(T* scores, T* slopes, const Head<T>& h, const Tile& tile) {
  cpu::gemm_tile<T>({scores, kKeys, h.q + tile.query * h.ldq, h.ldq, false, h.k + tile.key * h.ldk, h.ldk, true,
                     tile.rows, tile.columns, h.dim, false});
  for (int64_t i = 0; i < tile.rows; ++i)
    for (int64_t j = 0; j < tile.columns; ++j) {
      T& score = scores[i * kKeys + j];
      score *= h.scale;
      T slope = h.scale;
      if (h.softcap > 0) {
        const T t = std::tanh(score / h.softcap);
        score = h.softcap * t;
        slope *= 1 - t * t;
      }
      if (slopes) slopes[i * kKeys + j] = slope;
      score += h.slope * static_cast<T>(tile.key + j - tile.query - i);
    }
}

// Algorithm 1 for one tile of queries: out (rows, dim; stride ldo), logsumexp with stride ldl between queries.
template <class T>
void forward_tile(T* out, int64_t ldo, T* logsumexp, int64_t ldl, const Head<T>& h, int64_t query, int64_t rows) {
  alignas(64) T scores[kQueries * kKeys];
  T maximum[kQueries], sum[kQueries];
  std::fill_n(maximum, rows, -INFINITY);
  std::fill_n(sum, rows, T(0));
  for (int64_t i = 0; i < rows; ++i) std::fill_n(out + i * ldo, h.dim, T(0));
  for_key_tiles(h, query, rows, [&](const Tile& tile) {
    tile_scores<T>(scores, nullptr, h, tile);
    for (int64_t i = 0; i < rows; ++i) {
      T* row = scores + i * kKeys;
      const auto [begin, end] = visible(h, tile, i);
      std::fill_n(row, begin, T(0));
      std::fill_n(row + end, tile.columns - end, T(0));
      if (begin == end) continue;
      const T highest = std::max(maximum[i], *std::max_element(row + begin, row + end));
      const T shrink = std::exp(maximum[i] - highest);
      T total = 0;
      for (int64_t j = begin; j < end; ++j) total += row[j] = std::exp(row[j] - highest);
      sum[i] = sum[i] * shrink + total;
      maximum[i] = highest;
      for (int64_t d = 0; d < h.dim; ++d) out[i * ldo + d] *= shrink;
    }
    cpu::gemm_tile<T>(
        {out, ldo, scores, kKeys, false, h.v + tile.key * h.ldv, h.ldv, false, rows, h.dim, tile.columns, true});
  });
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < h.dim; ++d) out[i * ldo + d] /= sum[i];
    logsumexp[i * ldl] = maximum[i] + std::log(sum[i]);
  }
}

// Where the gradients of one head go, and what they come from; rows are tokens.
template <class T>
struct HeadGradients {
  T *dq, *dk, *dv;
  const T *dout, *out, *logsumexp;
  int64_t ldq, ldk;  // of dq, dout and out; of dk and dv
  int64_t ldl;
};

// Algorithm 2 for one tile of queries: adds to dq, dk and dv.
template <class T>
void backward_tile(const HeadGradients<T>& g, const Head<T>& h, int64_t query, int64_t rows) {
  alignas(64) T p[kQueries * kKeys], ds[kQueries * kKeys], slopes[kQueries * kKeys];
  T delta[kQueries];  // sum of dout * out, which is that of P * dP over all keys
  for (int64_t i = 0; i < rows; ++i) {
    const T *a = g.dout + (query + i) * g.ldq, *b = g.out + (query + i) * g.ldq;
    delta[i] = 0;
    for (int64_t d = 0; d < h.dim; ++d) delta[i] += a[d] * b[d];
  }
  const T* dout = g.dout + query * g.ldq;
  for_key_tiles(h, query, rows, [&](const Tile& tile) {
    tile_scores(p, slopes, h, tile);
    cpu::gemm_tile<T>(
        {ds, kKeys, dout, g.ldq, false, h.v + tile.key * h.ldv, h.ldv, true, rows, tile.columns, h.dim, false});  // dP
    for (int64_t i = 0; i < rows; ++i) {
      const auto [begin, end] = visible(h, tile, i);
      const T logsumexp = g.logsumexp[(query + i) * g.ldl];
      for (int64_t j = 0; j < tile.columns; ++j) {
        const int64_t at = i * kKeys + j;
        const bool seen = begin <= j && j < end;
        p[at] = seen ? std::exp(p[at] - logsumexp) : T(0);
        ds[at] = seen ? p[at] * (ds[at] - delta[i]) * slopes[at] : T(0);
      }
    }
    T *dk = g.dk + tile.key * g.ldk, *dv = g.dv + tile.key * g.ldk;
    cpu::gemm_tile<T>({dv, g.ldk, p, kKeys, true, dout, g.ldq, false, tile.columns, h.dim, rows, true});
    cpu::gemm_tile<T>({g.dq + query * g.ldq, g.ldq, ds, kKeys, false, h.k + tile.key * h.ldk, h.ldk, false, rows, h.dim,
                       tile.columns, true});
    cpu::gemm_tile<T>({dk, g.ldk, ds, kKeys, true, h.q + query * h.ldq, h.ldq, false, tile.columns, h.dim, rows, true});
  });
}

// Products of queries and keys that are seen, over all heads, times head_dim: what forward and backward are made of.
int64_t seen_products(const PackedSequences& s, const ScoreOptions& options) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < s.sequences; ++i) {
    const int64_t t = s.seq_start[i + 1] - s.seq_start[i];
    const int64_t window = options.window > 0 ? std::min(options.window, t) : t;
    pairs += window * (window + 1) / 2 + (t - window) * window;
  }
  return pairs * s.heads * s.head_dim;
}

}  // namespace

template <class T>
void attention(Cpu, T* out, Sum<T>* logsumexp, ConstRows<T> q, ConstRows<T> k, ConstRows<T> v, const PackedSequences& s,
               const ScoreOptions& options) {
  const ProfileScope profile([&] {
    return ProfiledCall{"attention", int64_t{sizeof(T)} * s.tokens * 2 * (s.heads + s.kv_heads) * s.head_dim,
                        4 * seen_products(s, options)};
  });
  const int64_t ldo = s.heads * s.head_dim;
  parallel_for(s.sequences * s.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t sequence = unit / s.heads, head = unit % s.heads, first = s.seq_start[sequence];
      const Head<T> h = head_of<T>(s, options, sequence, head, q, k, v);
      for (int64_t query = 0; query < h.tokens; query += kQueries)
        forward_tile(out + (first + query) * ldo + head * s.head_dim, ldo, logsumexp + (first + query) * s.heads + head,
                     s.heads, h, query, std::min(kQueries, h.tokens - query));
    }
  });
}

template <class T>
void attention_backward(Cpu, T* dq, T* dk, T* dv, const T* dout, const T* out, const Sum<T>* logsumexp, ConstRows<T> q,
                        ConstRows<T> k, ConstRows<T> v, const PackedSequences& s, const ScoreOptions& options) {
  const ProfileScope profile([&] {
    return ProfiledCall{"attention_backward", int64_t{sizeof(T)} * s.tokens * 4 * (s.heads + s.kv_heads) * s.head_dim,
                        10 * seen_products(s, options)};
  });
  const int64_t tokens = s.tokens, group = s.heads / s.kv_heads;
  const int64_t ld_heads = s.heads * s.head_dim, ld_kv_heads = s.kv_heads * s.head_dim;
  std::fill_n(dq, tokens * ld_heads, T(0));
  std::fill_n(dk, tokens * ld_kv_heads, T(0));
  std::fill_n(dv, tokens * ld_kv_heads, T(0));
  parallel_for(s.sequences * s.kv_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t sequence = unit / s.kv_heads, kv_head = unit % s.kv_heads, first = s.seq_start[sequence];
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        const Head<T> h = head_of<T>(s, options, sequence, head, q, k, v);
        const int64_t at_q = first * ld_heads + head * s.head_dim, at_k = first * ld_kv_heads + kv_head * s.head_dim;
        const HeadGradients<T> g{dq + at_q,   dk + at_k,   dv + at_k,
                                 dout + at_q, out + at_q,  logsumexp + first * s.heads + head,
                                 ld_heads,    ld_kv_heads, s.heads};
        for (int64_t query = 0; query < h.tokens; query += kQueries)
          backward_tile(g, h, query, std::min(kQueries, h.tokens - query));
      }
    }
  });
}

template <class T>
void attention_probabilities(Cpu, T* probabilities, int64_t longest, ConstRows<T> q, ConstRows<T> k,
                             const PackedSequences& s, const ScoreOptions& options) {
  std::fill_n(probabilities, s.tokens * s.heads * longest, T(0));
  parallel_for(s.sequences * s.heads, 1, [&](int64_t begin, int64_t end) {
    alignas(64) T scores[kKeys];
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t sequence = unit / s.heads, head = unit % s.heads;
      const Head<T> h = head_of<T>(s, options, sequence, head, q, k, {});
      for (int64_t i = 0; i < h.tokens; ++i) {
        T* row = probabilities + ((s.seq_start[sequence] + i) * s.heads + head) * longest;
        for_key_tiles(h, i, 1, [&](const Tile& tile) {
          tile_scores<T>(scores, nullptr, h, tile);
          std::copy_n(scores, tile.columns, row + tile.key);
        });
        const int64_t from = h.first_key(i);
        std::fill_n(row, from, T(0));
        const T highest = *std::max_element(row + from, row + i + 1);
        T sum = 0;
        for (int64_t j = from; j <= i; ++j) sum += row[j] = std::exp(row[j] - highest);
        for (int64_t j = from; j <= i; ++j) row[j] /= sum;
      }
    }
  });
}

#define LATHE_INSTANTIATE(T)                                                                                       \
  template void attention(Cpu, T*, Sum<T>*, ConstRows<T>, ConstRows<T>, ConstRows<T>, const PackedSequences&,      \
                          const ScoreOptions&);                                                                    \
  template void attention_backward(Cpu, T*, T*, T*, const T*, const T*, const Sum<T>*, ConstRows<T>, ConstRows<T>, \
                                   ConstRows<T>, const PackedSequences&, const ScoreOptions&);                     \
  template void attention_probabilities(Cpu, T*, int64_t, ConstRows<T>, ConstRows<T>, const PackedSequences&,      \
                                        const ScoreOptions&);
LATHE_INSTANTIATE(float)
LATHE_INSTANTIATE(double)
#undef LATHE_INSTANTIATE

}  // namespace lathe::kernel
