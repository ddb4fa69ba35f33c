// What a test can set and count of the emulated CUDA runtime, whose calls stand in cudart.h.
//
// Devices: memory that the host cannot touch outside of the runtime's calls (it is unmapped to it: a segmentation
// fault, as with a GPU), filled with NaN when it is given and when it is freed, with red zones that are checked at
// cudaFree. Streams: queues. Work is done when somebody waits for it, and now and then before; the next piece is taken
// at random (Config::seed) from those streams whose first piece waits for no event. The null stream waits for all
// others that are not cudaStreamNonBlocking, and so does cudaFree. Copies to and from pinned memory happen when it is
// their turn; from other host memory bytes are taken at once, to it the call waits. Graphs: what was captured, with the
// arguments it was captured with, in any order that its dependencies allow. Faults that CUDA reports come back as its
// error codes; those that it does not (a bad kernel, a copy out of bounds, a freed pointer) are thrown as simt::Error
// by the call in which the work is done.
#pragma once
#include <simt/cudart.h>
#include <simt/schedules.h>

#include <string>

namespace simt {

struct RuntimeCounts {
  uint64_t allocations, host_allocations;  // by cudaMalloc and cudaMallocAsync; pinned
  uint64_t launches, copies;               // queued by the host; what a graph replays is not counted
  uint64_t captures, instantiations, replays;
  uint64_t waits;  // of the host, for a stream, an event, a device
};
extern RuntimeCounts runtime_counts;

struct RuntimeConfig {
  int devices = 2;               // at most 8; 0: none, as on a machine without a GPU
  int driver_version = 13000;    // cudaDriverGetVersion
  size_t memory = 256 << 20;     // bytes of a device, at most 1 GiB
  bool check_arguments = false;  // pointers among a kernel's parameters must lie in memory of its device, or pinned
  cudaDeviceProp properties;     // of every device; an sm_90 with 4 multiprocessors, if not changed
  RuntimeConfig();
};
extern RuntimeConfig runtime_config;

// Bytes that are allocated on a device.
size_t memory_in_use(int device = 0);
// One line for each allocation that was not freed, device and pinned; empty: none.
std::string leaks();
// Drops all work, streams, graphs and memory, sets counts to 0 and runtime_config to its defaults. Throws simt::Error
// if a red zone was written to.
void reset_runtime();

// While one lives, the host can read and write device memory: for tests that look into it.
struct HostAccess {
  HostAccess();
  ~HostAccess();
  HostAccess(const HostAccess&) = delete;
  HostAccess& operator=(const HostAccess&) = delete;
};

}  // namespace simt
