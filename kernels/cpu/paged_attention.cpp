// Attention over the paged cache: which tiles run where. The tiles themselves are in paged_attention_tiles.h.
//
// With many new tokens a unit of work is a block of query rows of one key-value head, which walks its segments in
// order. With few (decoding) a unit is a single segment (split-KV) whose partial result is kept in scratch, and the
// segments are merged afterwards, in the same order by the same operations: both ways give the same bits.
//
// Sequences that begin alike have the same pages there, and the rows of all of them walk such a segment together, so
// that its keys and values are read, and widened, once for all. The page tables alone say who shares what, and a row's
// steps are the same in whatever company.
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

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/checks.h"
#include "kernels/cpu/dispatch.h"
#include "tensor/errors.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::cpu {
namespace {

constexpr int64_t kDecodeTokens = 8;  // up to so many new tokens, segments are units
constexpr int64_t kBlockRows = AttentionTile::kBlockRows;
constexpr int64_t kSegmentPages = kSegmentTokens / kPageTokens;
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
  // Adds a row of a sequence and key-value head to a tile: row r is head r % group of token r / group.
  void add_row(AttentionTile& tile, int64_t s, int64_t kv_head, int64_t row) const {
    const int i = tile.rows++;
    const int64_t at = token(s, row), head = kv_head * group() + row % group(), window = source.options.window;
    const int64_t end = batch.context_len[s] - new_tokens(s) + row / group() + 1;
    tile.q[i] = q + at * ldq + head * head_dim;
    tile.last[i] = end;
    tile.first[i] = window > 0 && end > window ? end - window : 0;
    tile.slope[i] = source.options.alibi_slopes != nullptr ? source.options.alibi_slopes[head] : 0.0f;
    tile.out[i] = out + (at * heads + head) * head_dim;
    tile.maximum[i] = kNothing;
    tile.sum[i] = 0.0f;
  }
  void divide(float* y, float sum) const {
    const float factor = 1.0f / sum;
    for (int64_t d = 0; d < head_dim; ++d) y[d] *= factor;
  }
};

// The sequences in the order of their page tables, which puts those that begin alike side by side.
class Order {
 public:
  explicit Order(const PagedBatch& batch)
      : sequences_(static_cast<size_t>(batch.sequences)), shared_(sequences_.size(), 0) {
    std::iota(sequences_.begin(), sequences_.end(), 0);
    const auto pages = [&](int64_t s) { return batch.page_table + s * batch.pages_per_sequence; };
    const auto end = [&](int64_t s) { return pages(s) + pages_for(batch.context_len[s]); };
    std::sort(sequences_.begin(), sequences_.end(),
              [&](int64_t a, int64_t b) { return std::lexicographical_compare(pages(a), end(a), pages(b), end(b)); });
    for (size_t place = 1; place < sequences_.size(); ++place) {
      const int64_t a = sequences_[place - 1], b = sequences_[place];
      const int64_t whole = std::min(batch.context_len[a], batch.context_len[b]) / kSegmentTokens;
      const auto differ = std::mismatch(pages(a), pages(a) + whole * kSegmentPages, pages(b));
      shared_[place] = (differ.first - pages(a)) / kSegmentPages;
    }
  }
  int64_t places() const { return static_cast<int64_t>(sequences_.size()); }
  int64_t sequence(int64_t place) const { return sequences_[static_cast<size_t>(place)]; }
  // Segments that a place has in common with the one before it.
  int64_t shared(int64_t place) const { return shared_[static_cast<size_t>(place)]; }
  // The end of the places from `place` on, of those before `limit`, that have a segment in common.
  int64_t together(int64_t place, int64_t limit, int64_t segment) const {
    while (++place < limit && shared(place) > segment) {}
    return place;
  }

 private:
  std::vector<int64_t> sequences_, shared_;  // by place
};

// Query rows of a key-value head on their way through segments. Those that walk one together stand in tiles, all but
// the last of them full.
class BlockRows {
 public:
  BlockRows(const Call& call, int64_t kv_head) : call_(call), kv_head_(kv_head) {}

  void add(int64_t s, int64_t row) {
    rows_[count_] = {s, row, kNothing, 0.0f};
    hold(count_, count_ + 1);
    first_ = std::min(first_, tiles_[0].first[0]);
    last_ = std::max(last_, tiles_[0].last[0]);
    std::memset(tiles_[0].out[0], 0, static_cast<size_t>(call_.head_dim) * sizeof(float));
    ++count_;
  }
  // The keys that any of them sees.
  int64_t first() const { return first_; }
  int64_t last() const { return last_; }
  // A segment of rows [begin, end), whose pages there are the same.
  void attend(int begin, int end, int64_t segment, float* scratch) {
    hold(begin, end);
    const AttentionSource source = call_.source_of(rows_[begin].sequence, kv_head_);
    const int count = (end - begin + call_.tiles.rows - 1) / call_.tiles.rows;
    if (count == 1)
      call_.tiles.attend(tiles_[0], source, segment, true);
    else
      call_.tiles.attend_block(tiles_, count, source, segment, scratch);
  }
  void divide() {
    hold(0, count_);
    for (int i = 0; i < count_; ++i)
      call_.divide(tile_of(i).out[i % call_.tiles.rows], tile_of(i).sum[i % call_.tiles.rows]);
  }

 private:
  struct Row {
    int64_t sequence, row;
    float maximum, sum;  // while it stands in no tile
  };
  AttentionTile& tile_of(int row) { return tiles_[(row - begin_) / call_.tiles.rows]; }

  void hold(int begin, int end) {
    if (begin == begin_ && end == end_) return;
    for (int row = begin_; row < end_; ++row) {
      const int i = (row - begin_) % call_.tiles.rows;
      rows_[row].maximum = tile_of(row).maximum[i];
      rows_[row].sum = tile_of(row).sum[i];
    }
    begin_ = begin;
    end_ = end;
    for (int row = begin; row < end; ++row) {
      const int i = (row - begin) % call_.tiles.rows;
      AttentionTile& tile = tile_of(row);
      tile.rows = i;
      call_.add_row(tile, rows_[row].sequence, kv_head_, rows_[row].row);
      tile.maximum[i] = rows_[row].maximum;
      tile.sum[i] = rows_[row].sum;
    }
  }

  const Call& call_;
  int64_t kv_head_;
  Row rows_[kBlockRows];
  AttentionTile tiles_[kBlockRows];  // at least one row each
  int count_ = 0, begin_ = 0, end_ = 0;
  int64_t first_ = INT64_MAX, last_ = 0;
};

// Rows of a key-value head that one member takes through their segments.
struct RowBlock {
  int64_t begin, end;           // places
  int64_t first_row, last_row;  // of the place; where there are several, all of them
};

// Neighbours that have a segment in common stand in one block, unless threads would go without.
std::vector<RowBlock> blocks_of(const Call& call, const Order& order) {
  int64_t all = 0;
  for (int64_t s = 0; s < call.batch.sequences; ++s) all += call.rows(s);
  const int64_t for_each_thread = all * call.kv_heads / static_cast<int64_t>(2 * thread_team().size());
  const int64_t most = std::clamp<int64_t>(for_each_thread, call.tiles.rows, kBlockRows);
  std::vector<RowBlock> blocks;
  for (int64_t place = 0; place < order.places(); ++place) {
    const int64_t rows = call.rows(order.sequence(place));
    const bool goes_on = order.shared(place) > 0 && !blocks.empty() && blocks.back().end == place;
    if (goes_on && blocks.back().first_row == 0 && blocks.back().last_row + rows <= most) {
      ++blocks.back().end;
      blocks.back().last_row += rows;
      continue;
    }
    for (int64_t row = 0; row < rows; row += kBlockRows)
      blocks.push_back({place, place + 1, row, std::min(row + kBlockRows, rows)});
  }
  return blocks;
}

void attend_block(const Call& call, const Order& order, const RowBlock& block, int64_t kv_head, float* scratch) {
  BlockRows rows(call, kv_head);
  const bool several = block.end - block.begin > 1;
  const auto last_row = [&](int64_t place) { return several ? call.rows(order.sequence(place)) : block.last_row; };
  for (int64_t place = block.begin; place < block.end; ++place)
    for (int64_t row = block.first_row; row < last_row(place); ++row) rows.add(order.sequence(place), row);
  for (int64_t segment = rows.first() / kSegmentTokens; segment * kSegmentTokens < rows.last(); ++segment) {
    int begin = 0;
    for (int64_t place = block.begin; place < block.end;) {
      const int64_t next = order.together(place, block.end, segment);
      int end = begin;
      for (; place < next; ++place) end += static_cast<int>(last_row(place) - block.first_row);
      rows.attend(begin, end, segment, scratch);
      begin = end;
    }
  }
  rows.divide();
}

// One segment for all rows of some places and a key-value head, into their partial results.
void attend_segment(const Call& call, const Order& order, int64_t begin, int64_t end, int64_t kv_head,
                    int64_t segment) {
  const AttentionSource source = call.source_of(order.sequence(begin), kv_head);
  AttentionTile tile;
  tile.rows = 0;
  const auto attend = [&] {
    call.tiles.attend(tile, source, segment, false);
    for (int i = 0; i < tile.rows; ++i) {
      tile.out[i][call.head_dim] = tile.maximum[i];
      tile.out[i][call.head_dim + 1] = tile.sum[i];
    }
    tile.rows = 0;
  };
  for (int64_t place = begin; place < end; ++place) {
    const int64_t s = order.sequence(place);
    for (int64_t row = 0; row < call.rows(s); ++row) {
      call.add_row(tile, s, kv_head, row);
      tile.out[tile.rows - 1] = call.partial(call.token(s, row), kv_head * call.group() + row % call.group(), segment);
      if (tile.rows == call.tiles.rows) attend();
    }
  }
  if (tile.rows > 0) attend();
}

// The merge of the partial results of one row.
void merge_segments(const Call& call, int64_t s, int64_t kv_head, int64_t row) {
  AttentionTile tile;
  tile.rows = 0;
  call.add_row(tile, s, kv_head, row);
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

void decode(const Call& call, const Order& order, bool small) {
  // The heads of a page lie one after the other, and what the hardware fetches beyond one is the next: so a unit has
  // all of them, where the segments alone keep every thread busy.
  int64_t segments = 0;
  for (int64_t place = 0; place < order.places(); ++place)
    segments += segments_of(call.batch.context_len[order.sequence(place)]) - order.shared(place);
  const int64_t heads = segments >= 4 * static_cast<int64_t>(thread_team().size()) ? call.kv_heads : 1;
  const int64_t parts = call.kv_heads / heads;
  parallel_unless(order.places() * call.max_segments * parts, small, [&](int64_t unit) {
    const int64_t place = unit / parts / call.max_segments, segment = unit / parts % call.max_segments;
    if (segment * kSegmentTokens >= call.batch.context_len[order.sequence(place)]) return;
    if (segment < order.shared(place)) return;  // the first that has it does it for all
    const int64_t end = order.together(place, order.places(), segment);
    for (int64_t h = 0; h < heads; ++h) attend_segment(call, order, place, end, unit % parts * heads + h, segment);
  });
  for (int64_t s = 0; s < call.batch.sequences; ++s) {
    const int64_t rows = call.rows(s);
    parallel_unless(call.kv_heads * rows, call.heads * call.head_dim * call.max_segments < kSerialProducts,
                    [&](int64_t unit) { merge_segments(call, s, unit / rows, unit % rows); });
  }
}

void prefill(const Call& call, const Order& order, bool small) {
  const std::vector<RowBlock> blocks = blocks_of(call, order);
  const int64_t units = static_cast<int64_t>(blocks.size()) * call.kv_heads;
  const auto attend_unit = [&](int64_t unit, float* scratch) {
    unit = units - 1 - unit;  // a sequence's last rows see most and are begun first
    attend_block(call, order, blocks[static_cast<size_t>(unit / call.kv_heads)], unit % call.kv_heads, scratch);
  };
  // Each worker needs scratch of its own, so workers are scheduled, not blocks.
  std::atomic<int64_t> next{0};
  parallel_unless(thread_team().size(), small, [&](int64_t place) {
    float* scratch = call.scratch + place * call.tiles.block_floats(call.head_dim, kBlockRows);
    for (int64_t unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < units;) attend_unit(unit, scratch);
  });
}

// Keys and values count once a sequence, those of common segments once for all, whatever the number of queries that
// read them.
ProfiledCall describe(const CacheLayer& pages, const PagedBatch& batch, const Order& order, int64_t heads,
                      int64_t kv_heads, int64_t head_dim, int64_t window) {
  const int64_t n = batch.seq_start[batch.sequences] - batch.seq_start[0];
  int64_t keys = 0, products = 0;
  for (int64_t s = 0; s < batch.sequences; ++s) {
    const int64_t end = batch.context_len[s], begin = end - (batch.seq_start[s + 1] - batch.seq_start[s]);
    const auto seen = [&](int64_t position) { return window > 0 && window <= position ? window : position + 1; };
    keys += end - begin - 1 + seen(begin);
    for (int64_t position = begin; position < end; ++position) products += seen(position);
  }
  for (int64_t place = 0; window == 0 && place < order.places(); ++place) keys -= order.shared(place) * kSegmentTokens;
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
  const Order order(batch);
  const ProfileScope profile([&] { return describe(pages, batch, order, heads, kv_heads, head_dim, options.window); });
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
    decode(call, order, products < kSerialProducts);
  else
    prefill(call, order, products < kSerialProducts);
}

}  // namespace lathe::kernel
