// How many pages the key-value cache gets.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/kv_cache.h"
#include "generate/block_manager.h"

namespace lathe {

// Bytes that this process may still take: what the system calls available, or less where a cgroup limits it; of a CUDA
// device, what is free there. 0: unknown.
size_t available_memory(Device device = {});

// Pages by layer group in about `kv_memory` bytes, shared out so that every group lasts for the same number of
// sequences of `context` tokens. 0 bytes: room for four of them, but at most half of the available memory. Pages that
// nothing was ever written to cost no resident memory. Never more than `max_sequences` sequences could fill. `chunk`:
// the most tokens of one step. On a CUDA device the half is that of its memory. Throws Error where not even one page
// fits.
std::vector<PageGroup> cache_pages(const ModelSizes& config, DType dtype, size_t kv_memory, int64_t context,
                                   int64_t chunk, int64_t max_sequences, Device device = {});

}  // namespace lathe
