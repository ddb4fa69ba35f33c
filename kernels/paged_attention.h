// Inference attention over a paged key-value cache, and the write into it.
//
// A page holds kPageTokens tokens of one layer. Its layout belongs to the device, its size does not. On the CPU: keys
// [Hk][D][16] (transposed: a vector of 16 keys per component, so scores need no horizontal sums), values [Hk][16][D];
// on CUDA both are [Hk][16][D] (kernels/cuda/cache_page.h). A slot is page * 16 + offset.
//
// In q8_0, blocks of 32 components of one token's head (the last one short) are 8-bit integers that share an f16 scale,
// 1/127 of the largest magnitude; a head's scales lie behind its elements, [blocks][16] for keys and for values (CUDA:
// [16][blocks]). A token is rounded once, when it is written, and every later pass reads the rounded one, the pass that
// wrote it included.
//
// Bits: a query walks its keys in fixed segments of kSegmentTokens from position 0 (from the first page that its window
// touches, cut at segment borders) and merges the segments in ascending order, whatever the number of new tokens, the
// order of pages in memory, the neighbours in the batch or the number of threads.
//
// Shapes: N new tokens of S sequences, Hq query heads, Hk key-value heads (Hq % Hk == 0), D head dim.
#pragma once
#include <cstddef>

#include "kernels/device.h"
#include "kernels/packed_linear.h"
#include "tensor/dtype.h"

namespace lathe {

inline constexpr int kPageTokens = 16;
inline int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }
inline constexpr int kSegmentTokens = 256;
inline constexpr int kCacheBlock = 32;  // components that share a scale in q8_0

// How a score is made of q k^T, and which keys have one.
struct ScoreOptions {
  float scale = 1.0f;                   // multiplies q k^T
  int64_t window = 0;                   // keys a query sees, itself included; 0: all before it
  float softcap = 0.0f;                 // c tanh(s / c); 0: none
  const float* alibi_slopes = nullptr;  // (Hq): adds slope * (key position - query position); null: none
  // What attention without a cache multiplies in on CUDA; all other attention does not look at it.
  Arithmetic products = Arithmetic::f32;
};

// One layer's share of a cache: its part of page p begins p * page_stride bytes behind `keys` and `values`. The layers
// of a page lie together, so that memory is touched by the page and not by the layer.
struct CacheLayer {
  void* keys;
  void* values;
  DType dtype;          // f32, f16, bf16 or q8_0
  int64_t page_stride;  // bytes, at least Hk * page_head_bytes(dtype, D)
};

constexpr bool is_cache_dtype(DType t) {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::q8_0;
}
// Bytes of one head's 16 keys, or values, in a page.
constexpr int64_t page_head_bytes(DType dtype, int64_t head_dim) {
  if (dtype != DType::q8_0) return head_dim * kPageTokens * info(dtype).block_bytes;
  return (head_dim + (head_dim + kCacheBlock - 1) / kCacheBlock * 2) * kPageTokens;
}

struct PagedBatch {
  const int32_t* seq_start;    // (S + 1): first new token of each sequence
  const int32_t* context_len;  // (S): tokens in the cache after this step's write, the new ones included
  const int32_t* page_table;   // (S, pages_per_sequence): page of each 16 positions; -1 where freed
  int64_t sequences;
  int64_t pages_per_sequence;
  // What grids are chosen by on the host, which cannot read a device's arrays; the CPU does not look at it.
  int64_t tokens = 0;           // N; those behind the last sequence are padding
  int64_t longest_context = 0;  // at least the largest of context_len
};

namespace kernel {

// k, v (N, Hk, D) f32 by token, into the pages of one layer; slot -1 is skipped.
void write_kv(Cpu, const CacheLayer& pages, ConstRows<float> k, ConstRows<float> v, const int32_t* slots, int64_t n,
              int64_t kv_heads, int64_t head_dim);
void write_kv(Cuda, const CacheLayer& pages, ConstRows<float> k, ConstRows<float> v, const int32_t* slots, int64_t n,
              int64_t kv_heads, int64_t head_dim);

inline constexpr int64_t kBf16HeadDim = 128;  // the widest head that tensor cores multiply on CUDA

// Bytes of 64-byte aligned scratch for the call below; `max_context` is the largest of context_len, n the new tokens.
// It grows with the thread team, which must not be replaced in between.
size_t paged_attention_scratch_bytes(Cpu, DType cache, int64_t n, int64_t heads, int64_t head_dim, int64_t max_context);
size_t paged_attention_scratch_bytes(Cuda, DType cache, int64_t n, int64_t heads, int64_t head_dim,
                                     int64_t max_context);
// out (N, Hq, D) f32 contiguous; q (N, Hq, D) f32 by token. The new tokens' keys are already in the cache;
// token i of a sequence with t new ones stands at position context_len - t + i and sees the keys up to itself.
// Arithmetic in f32; with AMX and a cache of bf16, queries and softmax weights are rounded to bf16 as well.
void paged_attention(Cpu, float* out, ConstRows<float> q, const CacheLayer& pages, const PagedBatch& batch,
                     int64_t heads, int64_t kv_heads, int64_t head_dim, const ScoreOptions& options, void* scratch);
// head_dim up to 256. Arithmetic in f32; with a cache of bf16 and heads of up to kBf16HeadDim, queries and softmax
// weights are rounded to bf16 and tensor cores multiply. A query without keys (context 0) gets zeros, padding is not
// written.
void paged_attention(Cuda, float* out, ConstRows<float> q, const CacheLayer& pages, const PagedBatch& batch,
                     int64_t heads, int64_t kv_heads, int64_t head_dim, const ScoreOptions& options, void* scratch);

}  // namespace kernel
}  // namespace lathe
