// What the house asks of the CUDA runtime: memory, copies and the properties of devices. Streams are in stream.h.
// Compiled only into builds with CUDA (LATHE_CUDA); the tests put the emulator of tests/simt in the runtime's place.
#pragma once
#include <string>

#include "tensor/device_memory.h"

namespace lathe::cuda {

// Device memory, 256-byte aligned, never null. Blocks are kept and reused by size class as the host's are, with the
// lists on the host. A block belongs to the stream that was the thread's when it was taken, and may be taken again by
// the same stream at once, because what used it is queued before what will. Throws Error that says what was asked,
// used, kept and free, when the device has no more.
Storage allocate(Device device, size_t bytes);
void zero(Device device, void* data, size_t bytes);
void copy(const ByteRows& to, const ByteRows& from, size_t row_bytes, size_t rows);

struct Memory {
  size_t used = 0, kept = 0;   // bytes in use by tensors, and waiting to be used again
  size_t free = 0, total = 0;  // of the device, as the driver counts
  int64_t allocations = 0;     // calls of the driver for memory so far
};
Memory memory(Device device);
void trim(Device device);  // gives what is kept back to the driver

}  // namespace lathe::cuda
