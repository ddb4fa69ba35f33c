// Tiles of rows that lie in groups whose borders only the device knows: `starts` (E + 1), ascending.
#pragma once
#include "kernels/cuda/gpu.h"

namespace lathe::kernel {

inline constexpr int kGroupsAtOnce = 128;  // whose pointers one launch takes: it has 4 KiB for them

// Slots for tiles of `tile` rows: group e has slots starts[e] / tile + e up to starts[e + 1] / tile + e, which is as
// many as it needs or one more. So the grid depends on the number of rows alone, and a block finds its group by
// bisection.
inline int64_t group_slots(int64_t rows, int64_t groups, int64_t tile) { return rows / tile + groups; }

struct GroupTile {
  int group;
  int64_t row, end;  // of the tile, and of the group
};
// False: the slot has no rows.
__device__ __forceinline__ bool find_group(GroupTile& found, const int32_t* starts, int groups, int64_t slot,
                                           int64_t tile) {
  int low = 0, high = groups;  // the group is in [low, high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if ((starts[middle] - starts[0]) / tile + middle <= slot)
      low = middle;
    else
      high = middle;
  }
  const int64_t start = starts[low];
  found = {low, start + (slot - (start - starts[0]) / tile - low) * tile, starts[low + 1]};
  return found.row < found.end;
}

}  // namespace lathe::kernel
