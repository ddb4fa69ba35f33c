// The table of kernels that every instruction set fills in (kernels_<isa>.cpp) and the choice of one.
//
// Only plain structs and pointers: the table is the border between ordinary code and code for one instruction set.
#pragma once
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/packed_linear.h"
#include "kernels/paged_attention.h"

namespace lathe::cpu {

// ---- packed_linear ----

// What an integer tile needs of 32 activations of one token.
struct TokenBlock {
  float scale;
  float scaled_sum;  // scale * (sum of the quantised), which multiplies the minimum of q4_1
  int32_t start4;    // -8 and -128 times the sum: where the integer sums of q4_0 and q8_0 start
  int32_t start8;
};

// M tokens repacked in tiles (the last one short).
struct PackedTokens {
  const float* words = nullptr;         // [tile][column][token]
  const int32_t* int8_words = nullptr;  // [tile][column / 4][token] 4 columns each
  const TokenBlock* blocks = nullptr;   // [tile][column / 32][token]
};

struct LinearTask {
  PackedMatrix weight;
  Arithmetic arithmetic;
  const float* bias;
  float* y;
  int64_t ldy;
  PackedTokens x;
};

struct LinearKernels {
  int float_tokens, integer_tokens;  // tokens of a tile
  // Tokens [token0, token1), token0 at a tile border; words, int8_words and blocks are those of token 0.
  void (*pack_floats)(float* words, const float* x, int64_t ldx, int64_t columns, bool round_to_bf16, int64_t token0,
                      int64_t token1);
  void (*pack_integers)(int32_t* int8_words, TokenBlock* blocks, const float* x, int64_t ldx, int64_t columns,
                        int64_t token0, int64_t token1);
  // Groups of 16 rows [group0, group1) times tokens [token0, token1).
  void (*multiply)(const LinearTask& task, int64_t group0, int64_t group1, int64_t token0, int64_t token1);
};

// ---- the table ----

struct Kernels {
  LinearKernels linear;
};

const Kernels& kernels();  // of cpu_isa()

// Null where the build's target has no such instruction set.
const Kernels* kernels_portable();
const Kernels* kernels_avx2();
const Kernels* kernels_avx512();
const Kernels* kernels_avx512_vnni();

}  // namespace lathe::cpu
