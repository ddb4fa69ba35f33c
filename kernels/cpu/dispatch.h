// The table of kernels that every instruction set fills in (kernels_<isa>.cpp) and the choice of one.
//
// Only plain structs and pointers: the table is the border between ordinary code and code for one instruction set.
#pragma once
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/packed_linear.h"
#include "kernels/paged_attention.h"
#include "kernels/rope.h"

namespace lathe::cpu {

// ---- packed_linear ----

// What an integer tile needs of 32 activations of one token.
struct TokenBlock {
  float scale;
  float scaled_sum;  // scale * (sum of the quantised), which multiplies a minimum
  int32_t start4;    // -8 and -128 times the sum: where the integer sums of q4_0 and q8_0 start
  int32_t start8;
  int32_t half_sum[2];  // of columns 0 to 15 and 16 to 31
  float scaled_half_sum[2];
};

inline constexpr int kAmxTokens = 16;  // of an AMX tile
// TokenBlocks of 16 tokens, as AMX tiles use them.
struct AmxTokenBlock {
  float scale[kAmxTokens], scaled_sum[kAmxTokens], scaled_half_sum[2][kAmxTokens];
};

// M tokens repacked in tiles. Vector tiles, of which the last is short:
//   words [tile][column][token] f32 or [tile][column / 2][token] pairs of bf16
//   int8_words [tile][column / 4][token] 4 columns each, blocks [tile][column / 32][token]
// AMX tiles of 16 tokens, the last one filled up with zeros:
//   words, int8_words [tile][column / 32][token][32] bf16, blocks [tile][column / 32] AmxTokenBlock
struct PackedTokens {
  float* words = nullptr;
  int32_t* int8_words = nullptr;
  TokenBlock* blocks = nullptr;
};

struct LinearTask {
  PackedMatrix weight;
  const float* bias;
  float* y;
  int64_t ldy;
  PackedTokens x;
};

// One arithmetic. Tokens [token0, token1), token0 at a tile border; the buffers of PackedTokens are those of token 0.
struct LinearKernels {
  int tile_tokens;
  int block_bytes;  // what `pack` writes for 32 columns of a token
  void (*pack)(const PackedTokens& to, const float* x, int64_t ldx, int64_t columns, int64_t token0, int64_t token1);
  // Of int8: the same for int16, where tokens 2 t and 2 t + 1 are the halves of row t of x.
  void (*pack_halves)(const PackedTokens& to, const float* x, int64_t ldx, int64_t columns, int64_t token0,
                      int64_t token1);
  // Groups of 16 rows [group0, group1).
  void (*multiply)(const LinearTask& task, int64_t group0, int64_t group1, int64_t token0, int64_t token1);
};

// By Arithmetic; int16 has the tiles of int8, with two tokens a row. `few` and `many` give the same bits; `many` serves
// beyond `few_tokens`.
struct LinearTable {
  LinearKernels few[3], many[3];
  int64_t few_tokens[3];
  const LinearKernels& of(Arithmetic arithmetic, int64_t tokens) const {
    const int i = static_cast<int>(is_integer(arithmetic) ? Arithmetic::int8 : arithmetic);
    return tokens <= few_tokens[i] ? few[i] : many[i];
  }
};

// ---- paged_attention ----

// Query rows that share a key-value head, and their running state.
struct AttentionTile {
  static constexpr int kMaxRows = 16;
  static constexpr int kBlockRows = 96;  // most rows of the tiles that attend together
  int rows;
  const float* q[kMaxRows];                 // (D)
  int64_t first[kMaxRows], last[kMaxRows];  // positions [first, last) are seen; the row stands at last - 1
  float slope[kMaxRows];                    // alibi, of the row's head
  float* out[kMaxRows];                     // (D), not yet divided by the sum
  float maximum[kMaxRows], sum[kMaxRows];   // of the exponentials
};

struct AttentionSource {
  CacheLayer cache;
  const int32_t* pages;  // of the sequence, from position 0
  int64_t kv_heads, kv_head, head_dim;
  int64_t head_stride;  // bytes from a key-value head's keys, or values, to those of the next in a page
  ScoreOptions options;
};

struct AttentionKernels {
  int rows;  // most rows of a tile
  // One segment of keys for the rows that see any of it: merged into the state, or put in its place.
  void (*attend)(AttentionTile& tile, const AttentionSource& source, int64_t segment, bool merge);
  // The same for several tiles of one key-value head, all but the last of them full, merged; with scratch of so many
  // floats for their rows, a multiple of `rows`, 64-byte aligned.
  int64_t (*block_floats)(int64_t head_dim, int64_t rows);
  void (*attend_block)(AttentionTile* tiles, int count, const AttentionSource& source, int64_t segment, float* scratch);
  // The same merge from the partial state of one segment. The state before the first segment is zeros and -infinity.
  void (*merge)(float* out, float& maximum, float& sum, const float* segment, float segment_maximum, float segment_sum,
                int64_t head_dim);
  // k, v (Hk, D) of one token into its slot; of the source, the cache and the sizes matter.
  void (*write_token)(const AttentionSource& source, int64_t slot, const float* k, const float* v);
};

// `bf16` multiplies bf16, for a cache of it and heads of up to `bf16_head_dim` components: 0 where there are no such
// kernels. Writing and merging are the same in both.
struct AttentionTable {
  AttentionKernels floats, bf16 = {};
  int64_t bf16_head_dim = 0;
  const AttentionKernels& of(DType cache, int64_t head_dim) const {
    return cache == DType::bf16 && head_dim <= bf16_head_dim ? bf16 : floats;
  }
};

// ---- norms, rotations and activations, some rows each; arguments as in kernels/{norm,rope,activation}.h ----

struct RowTable {
  void (*rms_norm)(float* y, float* rstd, const float* x, int64_t ldx, const float* w, int64_t rows, int64_t n,
                   float eps, float offset);
  void (*layer_norm)(float* y, float* mean, float* rstd, const float* x, int64_t ldx, const float* w, const float* b,
                     int64_t rows, int64_t n, float eps);
  void (*add_rms_norm)(float* sum, float* y, float* rstd, const float* a, const float* b, const float* w, int64_t rows,
                       int64_t n, float eps, float offset);
  void (*add_layer_norm)(float* sum, float* y, float* mean, float* rstd, const float* a, const float* b, const float* w,
                         const float* bias, int64_t rows, int64_t n, float eps);
  // The heads of one token, in place or not; the sine times sine_sign.
  void (*rotate)(float* y, const float* x, const float* cos, const float* sin, int64_t heads, int64_t head_dim,
                 int64_t rotary_dim, RopeStyle style, float sine_sign);
  // f(gate), times `up` where that is not null
  void (*activation)(float* y, const float* gate, int64_t ldg, const float* up, int64_t ldu, int64_t rows, int64_t n,
                     Activation f);
};

// ---- the loops of kernels/peak_rates.h ----

struct PeakTable {
  static constexpr int kReadLines = 16, kLines = kReadLines + 32;  // of 64 bytes
  // Some steps over kLines of memory, of which kReadLines are read; returns the operations done.
  int64_t (*floats)(void* memory, int64_t steps) = nullptr;
  int64_t (*integers)(void* memory, int64_t steps) = nullptr;
  int64_t (*bf16)(void* memory, int64_t steps) = nullptr;  // null where bf16 arithmetic runs on the units of f32
};

// ---- the table ----

struct Kernels {
  LinearTable linear;
  AttentionTable attention;
  RowTable rows;
  PeakTable peaks = {};
};

const Kernels& kernels();  // of cpu_isa()

// Null where the build's target has no such instruction set.
const Kernels* kernels_portable();
const Kernels* kernels_avx2();
const Kernels* kernels_avx_vnni();
const Kernels* kernels_avx512();
const Kernels* kernels_avx512_vnni();
const Kernels* kernels_amx();
const Kernels* kernels_neon();
const Kernels* kernels_neon_dot();
const Kernels* kernels_neon_i8mm();

}  // namespace lathe::cpu
