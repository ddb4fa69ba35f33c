// Which weight and which tokens a block of packed_tiles.h has: of several weights over the same tokens, or of the
// weights of groups of tokens.
#pragma once
#include "kernels/checks.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/groups.h"

namespace lathe::kernel::packed {

struct Job {
  const uint8_t* weight;
  const float* bias;
  float* y;
  int rows, row_block;   // outputs, and the block of them that is to be computed
  int token, token_end;  // tokens from `token` on, but none from `token_end` on
};

// Parts side by side: blocks of outputs are counted through all of them.
struct PartJobs {
  struct Part {
    const uint8_t* weight;
    const float* bias;
    float* y;
    int rows, end;  // `end`: the blocks of all parts up to this one
  };
  Part parts[kMaxParts];
  int count, tokens;

  void add(const Part& part) { parts[count++] = part; }
  unsigned count_blocks(int outputs) {
    int blocks = 0;
    for (int p = 0; p < count; ++p) parts[p].end = blocks += ceil_divide(parts[p].rows, outputs);
    return static_cast<unsigned>(blocks);
  }
  __device__ __forceinline__ bool find(Job& job, int row_block, int slot, int tokens_at_once) const {
    int p = 0;
    while (row_block >= parts[p].end) ++p;
    if (p > 0) row_block -= parts[p - 1].end;
    job = {parts[p].weight, parts[p].bias, parts[p].y, parts[p].rows, row_block, slot * tokens_at_once, tokens};
    return true;
  }
};

// Groups of tokens, each with a weight of its own (groups.h); those with a null weight are left out.
struct GroupJobs {
  const uint8_t* weight[kGroupsAtOnce];
  const float* bias[kGroupsAtOnce];
  float* y;
  const int32_t* starts;
  int groups, rows;

  __device__ __forceinline__ bool find(Job& job, int row_block, int slot, int tokens_at_once) const {
    GroupTile tile;
    if (!find_group(tile, starts, groups, slot, tokens_at_once) || weight[tile.group] == nullptr) return false;
    job = {weight[tile.group],         bias[tile.group],          y, rows, row_block,
           static_cast<int>(tile.row), static_cast<int>(tile.end)};
    return true;
  }
};

}  // namespace lathe::kernel::packed
