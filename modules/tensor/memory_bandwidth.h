// How fast this machine reads memory: the ceiling of decoding, which reads every weight once a token.
#pragma once
#include <cstddef>
#include <span>

namespace lathe {

struct MemoryBlock {
  const void* data = nullptr;  // 8-byte aligned
  size_t bytes = 0;
};

// Bytes per second that the thread team reads from `blocks` one after another, as decoding reads its weights: the best
// of as many passes as fit in `seconds`, at least one. Small blocks come from a cache when there are several passes.
double measure_read_bandwidth(std::span<const MemoryBlock> blocks, double seconds);

// The same from a block far larger than the caches. Takes about a tenth of a second and 256 MiB.
double measure_read_bandwidth();

}  // namespace lathe
