// Which weight and which tokens a block of packed_linear.cu has: of one or several weights over the same tokens, or of
// the weights of groups of tokens.
#pragma once
#include "kernels/cuda/gpu.h"

namespace lathe::kernel::packed {

struct Job {
  const uint8_t* weight;
  const float* bias;
  float* y;
  int64_t rows, row_block;   // outputs, and the block of them that is to be computed
  int64_t token, token_end;  // tokens from `token` on, but none from `token_end` on
};

inline constexpr int kMaximumParts = 8;

// Parts side by side: blocks of outputs are counted through all of them.
struct PartJobs {
  const uint8_t* weight[kMaximumParts];
  const float* bias[kMaximumParts];
  float* y[kMaximumParts];
  int64_t rows[kMaximumParts], end[kMaximumParts];  // `end`: the blocks of parts 0 ... p
  int64_t tokens;

  __device__ __forceinline__ bool find(Job& job, int64_t row_block, int64_t slot, int tokens_at_once) const {
    int p = 0;
    while (row_block >= end[p]) ++p;
    job = {weight[p], bias[p], y[p], rows[p], row_block - (p > 0 ? end[p - 1] : 0), slot * tokens_at_once, tokens};
    return true;
  }
};

}  // namespace lathe::kernel::packed
