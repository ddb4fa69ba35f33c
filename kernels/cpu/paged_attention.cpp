// Attention over the paged cache: which tiles run where. The tiles themselves are in paged_attention_tiles.h.
//
// With many new tokens a unit of work is a block of query rows of one key-value head, which walks its segments in
// order. With few (decoding) a unit is a single segment (split-KV) whose partial result is kept in scratch, and the
// segments are merged afterwards, in the same order by the same operations: both ways give the same bits.
//
// One core of a Sapphire Rapids class Xeon that others share, AVX-512, 9 query and 3 key-value heads of 64, a layer,
// processor time; its peak was 212 GFLOP/s in f32:
//                           f32                       f16                       q8_0
//   decode, context 512     70 us, 11 GB/s            37 us, 11 GB/s            29 us, 7 GB/s
//   decode, context 4096    400 us, 16 GB/s           235 us, 13 GB/s           220 us, 8 GB/s
//   prefill of 512          81 GFLOP/s                93 GFLOP/s                92 GFLOP/s
//   512 after 1536          108 GFLOP/s               116 GFLOP/s               114 GFLOP/s
//   512 after 7680          109 GFLOP/s               122 GFLOP/s               119 GFLOP/s
// A bf16 cache in AMX tiles: prefill of 8,192 tokens 1.7 times as fast as f16, decoding 0.95 (docs/log.md).
// In turns with it, tiles that read f16 pages one by one, 48 rows in a block: 76, 103 and 106 GFLOP/s.
#include "kernels/paged_attention.h"

#include <atomic>
#include <cstring>

#include "kernels/checks.h"
#include "kernels/cpu/dispatch.h"
#include "tensor/errors.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::cpu {
namespace {

constexpr int64_t kDecodeTokens = 8;  // up to so many new tokens, segments are units
constexpr int64_t kBlockRows = AttentionTile::kBlockRows;
constexpr float kNothing = -__builtin_inff();

int64_t segments_of(int64_t context) { return (context + kSegmentTokens - 1) / kSegmentTokens; }
// Floats of the partial result of a segment: the outputs, the maximum and the sum.
int64_t partial_floats(int64_t head_dim) { return (head_dim + 2 + 15) / 16 * 16; }

struct Call {
  float* out;
  const float* q;
  int64_t ldq;
  AttentionSource source;  // of sequence 0, head 0
  const PagedBatch& batch;
  int64_t heads, kv_heads, head_dim;
  float* scratch;  // decoding, the segments' partial results: [token][head][segment][partial_floats]; else of each
                   // member's block
  int64_t max_segments;
  const AttentionKernels& tiles;

  int64_t group() const { return heads / kv_heads; }
  int64_t new_tokens(int64_t s) const { return batch.seq_start[s + 1] - batch.seq_start[s]; }
  int64_t rows(int64_t s) const { return new_tokens(s) * group(); }  // of one key-value head
  int64_t token(int64_t s, int64_t row) const { return batch.seq_start[s] + row / group(); }
  float* partial(int64_t token, int64_t head, int64_t segment) const {
    return scratch + ((token * heads + head) * max_segments + segment) * partial_floats(head_dim);
  }
  AttentionSource source_of(int64_t s, int64_t kv_head) const {
    AttentionSource of = source;
    of.pages = batch.page_table + s * batch.pages_per_sequence;
    of.kv_head = kv_head;
    return of;
  }
  // Rows [begin, end) of a sequence and key-value head: row r is head r % group of token r / group.
  AttentionTile tile(int64_t s, int64_t kv_head, int64_t begin, int64_t end) const {
    AttentionTile t;
    t.rows = static_cast<int>(end - begin);
    const int64_t heads_of_token = group(), window = source.options.window;
    int64_t at = token(s, begin), member = begin % heads_of_token;
    int64_t position = batch.context_len[s] - new_tokens(s) + begin / heads_of_token;
    for (int i = 0; i < t.rows; ++i, ++member) {
      if (member == heads_of_token) {
        member = 0;
        ++at;
        ++position;
      }
      const int64_t head = kv_head * heads_of_token + member;
      t.q[i] = q + at * ldq + head * head_dim;
      t.last[i] = position + 1;
      t.first[i] = window > 0 && position + 1 > window ? position + 1 - window : 0;
      t.slope[i] = source.options.alibi_slopes != nullptr ? source.options.alibi_slopes[head] : 0.0f;
      t.out[i] = out + (at * heads + head) * head_dim;
      t.maximum[i] = kNothing;
      t.sum[i] = 0.0f;
    }
    return t;
  }
  void divide(float* y, float sum) const {
    const float factor = 1.0f / sum;
    for (int64_t d = 0; d < head_dim; ++d) y[d] *= factor;
  }
};

// A block of rows through all its segments.
void attend_block(const Call& call, int64_t s, int64_t kv_head, int64_t begin, int64_t end, float* scratch) {
  const AttentionSource source = call.source_of(s, kv_head);
  AttentionTile tiles[kBlockRows];  // at least one row each
  int count = 0;
  do {
    const int64_t row = begin + count * call.tiles.rows;
    AttentionTile& tile = tiles[count++];
    tile = call.tile(s, kv_head, row, row + call.tiles.rows < end ? row + call.tiles.rows : end);
    for (int i = 0; i < tile.rows; ++i) std::memset(tile.out[i], 0, static_cast<size_t>(call.head_dim) * sizeof(float));
  } while (begin + count * call.tiles.rows < end);
  const AttentionTile& last = tiles[count - 1];
  for (int64_t segment = tiles[0].first[0] / kSegmentTokens; segment * kSegmentTokens < last.last[last.rows - 1];
       ++segment) {
    if (count == 1)
      call.tiles.attend(tiles[0], source, segment, true);
    else
      call.tiles.attend_block(tiles, count, source, segment, scratch);
  }
  for (int t = 0; t < count; ++t)
    for (int i = 0; i < tiles[t].rows; ++i) call.divide(tiles[t].out[i], tiles[t].sum[i]);
}

// One segment for all rows of a sequence and key-value head, into its partial result.
void attend_segment(const Call& call, int64_t s, int64_t kv_head, int64_t segment) {
  const AttentionSource source = call.source_of(s, kv_head);
  const int64_t rows = call.rows(s);
  for (int64_t row = 0; row < rows; row += call.tiles.rows) {
    AttentionTile tile = call.tile(s, kv_head, row, row + call.tiles.rows < rows ? row + call.tiles.rows : rows);
    float* state[AttentionTile::kMaxRows];
    for (int i = 0; i < tile.rows; ++i) {
      state[i] = call.partial(call.token(s, row + i), kv_head * call.group() + (row + i) % call.group(), segment);
      tile.out[i] = state[i];
    }
    call.tiles.attend(tile, source, segment, false);
    for (int i = 0; i < tile.rows; ++i) {
      state[i][call.head_dim] = tile.maximum[i];
      state[i][call.head_dim + 1] = tile.sum[i];
    }
  }
}

// The merge of the partial results of one row.
void merge_segments(const Call& call, int64_t s, int64_t kv_head, int64_t row) {
  const AttentionTile tile = call.tile(s, kv_head, row, row + 1);
  float maximum = kNothing, sum = 0.0f;
  std::memset(tile.out[0], 0, static_cast<size_t>(call.head_dim) * sizeof(float));
  for (int64_t segment = tile.first[0] / kSegmentTokens; segment * kSegmentTokens < tile.last[0]; ++segment) {
    const float* state = call.partial(call.token(s, row), kv_head * call.group() + row % call.group(), segment);
    call.tiles.merge(tile.out[0], maximum, sum, state, state[call.head_dim], state[call.head_dim + 1], call.head_dim);
  }
  call.divide(tile.out[0], sum);
}

// f(unit) for [0, units), handed out one by one, as their costs differ; on the caller alone when the work is small.
template <class F>
void parallel_unless(int64_t units, bool small, F f) {
  if (!small) return parallel(units, f);
  for (int64_t unit = 0; unit < units; ++unit) f(unit);
}

void decode(const Call& call, bool small) {
  // The heads of a page lie one after the other, and what the hardware fetches beyond one is the next: so a unit has
  // all of them, where the segments alone keep every thread busy.
  const int64_t segments = call.batch.sequences * call.max_segments;
  const int64_t heads = segments >= 4 * static_cast<int64_t>(thread_team().size()) ? call.kv_heads : 1;
  const int64_t parts = call.kv_heads / heads;
  parallel_unless(segments * parts, small, [&](int64_t unit) {
    const int64_t s = unit / parts / call.max_segments, segment = unit / parts % call.max_segments;
    if (segment * kSegmentTokens >= call.batch.context_len[s]) return;
    for (int64_t h = 0; h < heads; ++h) attend_segment(call, s, unit % parts * heads + h, segment);
  });
  for (int64_t s = 0; s < call.batch.sequences; ++s) {
    const int64_t rows = call.rows(s);
    parallel_unless(call.kv_heads * rows, call.heads * call.head_dim * call.max_segments < kSerialProducts,
                    [&](int64_t unit) { merge_segments(call, s, unit / rows, unit % rows); });
  }
}

void prefill(const Call& call, bool small) {
  int64_t units = 0;
  const auto blocks = [&](int64_t s) { return (call.rows(s) + kBlockRows - 1) / kBlockRows; };
  for (int64_t s = 0; s < call.batch.sequences; ++s) units += blocks(s) * call.kv_heads;
  const auto attend_unit = [&](int64_t unit, float* scratch) {
    unit = units - 1 - unit;  // the last rows see most and are begun first
    int64_t s = 0;
    for (; unit >= blocks(s) * call.kv_heads; ++s) unit -= blocks(s) * call.kv_heads;
    const int64_t begin = unit / call.kv_heads * kBlockRows, end = begin + kBlockRows;
    attend_block(call, s, unit % call.kv_heads, begin, end < call.rows(s) ? end : call.rows(s), scratch);
  };
  // Each worker needs scratch of its own, so workers are scheduled, not blocks.
  std::atomic<int64_t> next{0};
  parallel_unless(thread_team().size(), small, [&](int64_t place) {
    float* scratch = call.scratch + place * call.tiles.block_floats(call.head_dim, kBlockRows);
    for (int64_t unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < units;) attend_unit(unit, scratch);
  });
}

// Keys and values count once a sequence, whatever the number of queries that read them.
ProfiledCall describe(const CacheLayer& pages, const PagedBatch& batch, int64_t heads, int64_t kv_heads,
                      int64_t head_dim, int64_t window) {
  const int64_t n = batch.seq_start[batch.sequences] - batch.seq_start[0];
  int64_t keys = 0, products = 0;
  for (int64_t s = 0; s < batch.sequences; ++s) {
    const int64_t end = batch.context_len[s], begin = end - (batch.seq_start[s + 1] - batch.seq_start[s]);
    const auto seen = [&](int64_t position) { return window > 0 && window <= position ? window : position + 1; };
    keys += end - begin - 1 + seen(begin);
    for (int64_t position = begin; position < end; ++position) products += seen(position);
  }
  return {fmt::format("attention, {} cache", name(pages.dtype)),
          2 * keys * kv_heads * static_cast<int64_t>(bytes_of(pages.dtype, head_dim)) + 8 * n * heads * head_dim,
          4 * products * heads * head_dim};
}

}  // namespace
}  // namespace lathe::cpu

namespace lathe::kernel {
using namespace cpu;

void write_kv(Cpu, const CacheLayer& pages, ConstRows<float> k, ConstRows<float> v, const int32_t* slots, int64_t n,
              int64_t kv_heads, int64_t head_dim) {
  const ProfileScope profile([&] {
    return ProfiledCall{"write_kv",
                        2 * n * kv_heads * (4 * head_dim + static_cast<int64_t>(bytes_of(pages.dtype, head_dim))), 0};
  });
  check_cache("write_kv", pages.dtype);
  const auto write_token = kernels().attention.floats.write_token;
  const AttentionSource source{pages, nullptr, kv_heads, 0, head_dim, page_head_bytes(pages.dtype, head_dim), {}};
  const int64_t grain = 1 + (16 << 10) / (kv_heads * head_dim);
  // Two tokens may share a page but never an element.
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      if (slots[i] >= 0) write_token(source, slots[i], k[i], v[i]);
  });
}

size_t paged_attention_scratch_bytes(Cpu, DType cache, int64_t n, int64_t heads, int64_t head_dim,
                                     int64_t max_context) {
  const AttentionKernels& tiles = kernels().attention.of(cache, head_dim);
  const int64_t floats = n <= kDecodeTokens ? n * heads * segments_of(max_context) * partial_floats(head_dim)
                                            : thread_team().size() * tiles.block_floats(head_dim, kBlockRows);
  return static_cast<size_t>(floats) * sizeof(float);
}

void paged_attention(Cpu, float* out, ConstRows<float> q, const CacheLayer& pages, const PagedBatch& batch,
                     int64_t heads, int64_t kv_heads, int64_t head_dim, const ScoreOptions& options, void* scratch) {
  const ProfileScope profile([&] { return describe(pages, batch, heads, kv_heads, head_dim, options.window); });
  check_cache("paged_attention", pages.dtype);
  check(kv_heads >= 1 && heads % kv_heads == 0, "paged_attention",
        "{} query heads, expected a multiple of the {} key-value heads", heads, kv_heads);
  const int64_t n = batch.seq_start[batch.sequences] - batch.seq_start[0];
  int64_t longest = 0, products = 0;
  for (int64_t s = 0; s < batch.sequences; ++s) {
    const int64_t t = batch.seq_start[s + 1] - batch.seq_start[s], context = batch.context_len[s];
    check(context >= t && context <= batch.pages_per_sequence * kPageTokens, "paged_attention",
          "sequence {} has {} new tokens and {} pages, its context is {}", s, t, batch.pages_per_sequence, context);
    longest = context > longest ? context : longest;
    products += t * context * heads * head_dim;
  }
  const Call call{out,
                  q.data,
                  q.stride,
                  {pages, batch.page_table, kv_heads, 0, head_dim, page_head_bytes(pages.dtype, head_dim), options},
                  batch,
                  heads,
                  kv_heads,
                  head_dim,
                  static_cast<float*>(scratch),
                  segments_of(longest),
                  kernels().attention.of(pages.dtype, head_dim)};
  if (n <= kDecodeTokens)
    decode(call, products < kSerialProducts);
  else
    prefill(call, products < kSerialProducts);
}

}  // namespace lathe::kernel
