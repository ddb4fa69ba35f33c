// Attention over the paged cache, and the write into it. A page's layout is in cache_page.h: keys and values
// [Hk][16][D].
//
// A block has some rows, queries of the heads of one key-value head, and walks their keys in chunks of 64 on the tiles
// of attention_tiles.h. Chunks make segments of 256 keys, counted from position 0. Decoding, a block has one segment
// and keeps its result in scratch, and a second kernel merges the segments of a row in ascending order; with many new
// tokens a block has all segments and merges each with those before it as it goes. Sums of a row run in the same order
// by the same instructions in either way and any height of tile, and keys that a row does not see change nothing: so
// the choice, by sizes alone, changes no bit.
//
// The ladder (Qwen3-0.6B, 16 query and 8 key-value heads of 128, f16 cache, one layer):
//   version 1 (this)   multiply-adds in f32. Decode of 256 sequences at context 843: 0.88 GB of keys and values, 1.8
//                      GFLOP, limit 0.29 ms at 3.0 TB/s. Prefill of 2,048 tokens: 17 GFLOP, limit 0.26 ms at 67 TFLOP/s
//                      of f32 (0.02 ms in bf16 at 790). Not measured yet: no GPU has run it.
#include "kernels/cuda/paged_tiles.h"
#include "kernels/paged_attention.h"

namespace lathe::kernel {
namespace {
using namespace head_tiles;

// Up to so many new tokens, and so many bytes of results by segment, a block has one segment.
constexpr int64_t kSplitTokens = 256, kSplitBytes = int64_t{256} << 20;
constexpr int kWriteWarps = 4, kMergeThreads = 128;

template <int kRows, int kPieces>
__global__ void __launch_bounds__(kTileThreads, 1) paged_attention_kernel(PagedCall call) {
  SHARED_ARRAY(float4, rows, [kGroups * kRows][kQuads]);
  SHARED_ARRAY(float4, columns, [kColumns][kQuads]);
  SHARED_ARRAY(float4, weights, [kGroups * kRows][kQuads]);
  const PagedTile tile(call, kGroups * kRows);
  if (!tile.exists()) return;
  const ScoreOptions& options = call.options;
  const int group = tile.group, dim = static_cast<int>(call.head_dim), row0 = tile.row0, row_end = tile.row_end;
  const bool split = call.partials != nullptr;
  const HeadRows queries = tile.queries(call);
  const PagedRows keys = tile.rows(call, call.pages.keys), values = tile.rows(call, call.pages.values);
  const QueryRows<kRows> bounds(row0, row_end, group, tile.shift, tile.head0, options);

  Softmax<kRows, kPieces> segment, total;
  segment.clear();  // stored as it is where the tile has no segment
  total.clear();
  for (int s = tile.first_segment; s < tile.end_segment; ++s) {
    segment.clear();
    const int end = (s + 1) * kSegmentTokens < tile.end_key ? (s + 1) * kSegmentTokens : tile.end_key;
    int chunk = s * kSegmentTokens;
    if (chunk < tile.begin_key) chunk = tile.begin_key / kColumns * kColumns;
    for (; chunk < end; chunk += kColumns)
      attend(segment, rows, columns, weights, queries, row0, row_end, keys, values, Range{chunk, tile.begin_key, end},
             tile.all_from, tile.all_below, bounds, options);
    if (split) break;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const Merge merge(total.maximum[i], segment.maximum[i]);
      total.maximum[i] = merge.maximum;
      total.sum[i] = merge.of(total.sum[i], segment.sum[i]);
#pragma unroll
      for (int p = 0; p < kPieces; ++p)
#pragma unroll
        for (int e = 0; e < 4; ++e) total.values[i][p][e] = merge.of(total.values[i][p][e], segment.values[i][p][e]);
    }
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int row = row0 + thread_group() * kRows + i;
    if (row >= row_end) continue;
    const int64_t at = tile.output(call, row);
    const int d = thread_column() * 4;
    if (split) {
      float* const partial = tile.partial(call, at);
#pragma unroll
      for (int p = 0; p < kPieces; ++p) store_quad(partial, p * kPiece + d, dim, segment.values[i][p], 1.0f);
      if (d == 0) partial[dim] = segment.maximum[i], partial[dim + 1] = segment.sum[i];
    } else {
      const float factor = bounds.last[i] > 0 ? 1.0f / total.sum[i] : 0.0f;
#pragma unroll
      for (int p = 0; p < kPieces; ++p)
        store_quad(call.out + at * dim, p * kPiece + d, dim, total.values[i][p], factor);
    }
  }
}

// A block a new token and head.
__global__ void __launch_bounds__(kMergeThreads) merge_segments_kernel(PagedCall call) {
  const PagedBatch& batch = call.batch;
  const int token = static_cast<int>(blockIdx.x), dim = static_cast<int>(call.head_dim);
  if (token >= batch.seq_start[batch.sequences]) return;
  const int64_t sequence = sequence_of(batch.seq_start, batch.sequences, token);
  int last = batch.context_len[sequence] - (batch.seq_start[sequence + 1] - token) + 1;
  if (last < 0) last = 0;
  const int first = first_key(last, call.options);
  const int64_t at = token * call.heads + blockIdx.y;
  const float* const partials = call.partials + at * call.segments * partial_floats(dim);
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += kMergeThreads) {
    float maximum = -INFINITY, sum = 0.0f, value = 0.0f;
    for (int s = first / kSegmentTokens; s * kSegmentTokens < last; ++s) {
      const float* const partial = partials + s * partial_floats(dim);
      const Merge merge(maximum, partial[dim]);
      maximum = merge.maximum;
      sum = merge.of(sum, partial[dim + 1]);
      value = merge.of(value, partial[d]);
    }
    call.out[at * dim + d] = value * (last > 0 ? 1.0f / sum : 0.0f);
  }
}

// A warp a token and key-value head: keys, and as many warps again: values.
__global__ void __launch_bounds__(kWriteWarps * 32)
    write_kv_kernel(CacheLayer pages, Rows<const float> k, Rows<const float> v, const int32_t* __restrict__ slots,
                    int64_t n, int64_t kv_heads, int head_dim, int64_t head_bytes) {
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kWriteWarps + threadIdx.x / 32, half = n * kv_heads;
  if (unit >= 2 * half) return;
  const int64_t token = unit % half / kv_heads, head = unit % half % kv_heads, slot = slots[token];
  if (slot < 0) return;
  const Rows<const float>& from = unit < half ? k : v;
  uint8_t* const to = static_cast<uint8_t*>(unit < half ? pages.keys : pages.values);
  write_head(to + slot / kPageTokens * pages.page_stride + head * head_bytes, pages.dtype,
             static_cast<int>(slot % kPageTokens), from.data + token * from.stride + head * head_dim, head_dim);
}

// Bytes of the results of all segments; 0: each block walks all of them, with the same bits.
int64_t split_bytes(int64_t n, int64_t heads, int64_t head_dim, int64_t context) {
  const int64_t bytes = n * heads * segments_of(context) * partial_floats(head_dim) * int64_t{sizeof(float)};
  return n <= kSplitTokens && bytes <= kSplitBytes ? bytes : 0;
}

template <int kRows, int kPieces>
void launch_paged(Cuda on, const PagedCall& call) {
  LAUNCH((paged_attention_kernel<kRows, kPieces>), grid_of(call, kGroups * kRows), dim3(kTileThreads), 0, on.stream,
         call);
}

}  // namespace

void write_kv(Cuda on, const CacheLayer& pages, ConstRows<float> k, ConstRows<float> v, const int32_t* slots, int64_t n,
              int64_t kv_heads, int64_t head_dim) {
  check_cache("write_kv", pages.dtype);
  if (n == 0) return;
  LAUNCH(write_kv_kernel, dim3(blocks_of(2 * n * kv_heads, kWriteWarps)), dim3(kWriteWarps * 32), 0, on.stream, pages,
         k, v, slots, n, kv_heads, static_cast<int>(head_dim), page_head_bytes(pages.dtype, head_dim));
}

size_t paged_attention_scratch_bytes(Cuda, DType, int64_t n, int64_t heads, int64_t head_dim, int64_t max_context) {
  return static_cast<size_t>(split_bytes(n, heads, head_dim, max_context));
}

void paged_attention(Cuda on, float* out, ConstRows<float> q, const CacheLayer& pages, const PagedBatch& batch,
                     int64_t heads, int64_t kv_heads, int64_t head_dim, const ScoreOptions& options, void* scratch) {
  check_cache("paged_attention", pages.dtype);
  check_cuda_head_dim("paged_attention", head_dim);
  if (batch.tokens == 0) return;
  const bool split = split_bytes(batch.tokens, heads, head_dim, batch.longest_context) > 0;
  const PagedCall call{out,
                       split ? static_cast<float*>(scratch) : nullptr,
                       q,
                       pages,
                       batch,
                       heads,
                       kv_heads,
                       head_dim,
                       page_head_bytes(pages.dtype, head_dim),
                       segments_of(batch.longest_context),
                       options};
  // Few rows a sequence: low tiles, most of whose rows would be empty otherwise.
  const bool low = batch.tokens * (heads / kv_heads) <= kGroups * batch.sequences;
  if (batch.longest_context > 0 && pages.dtype == DType::bf16 && head_dim <= kBf16HeadDim)
    launch_paged_bf16(on, call);
  else if (batch.longest_context > 0)
    by_head_dim(head_dim, [&](auto rows, auto pieces) {
      low ? launch_paged<1, pieces()>(on, call) : launch_paged<rows(), pieces()>(on, call);
    });
  if (call.partials != nullptr)
    LAUNCH(merge_segments_kernel, dim3(static_cast<unsigned>(batch.tokens), static_cast<unsigned>(heads)),
           dim3(kMergeThreads), 0, on.stream, call);
}

}  // namespace lathe::kernel
