// The bytes of each device: allocation, and movement within a device and between two. What Tensor is made of; nothing
// else of the house asks where elements lie.
#pragma once
#include "tensor/storage.h"
#include "tensor/tensor.h"

namespace lathe {

// Throws Error when the device has no more memory, or is none that this build and machine have.
Storage allocate_storage(Device device, size_t bytes);

// Bytes of the block that serves a request of a CUDA device's pool.
size_t device_block_bytes(size_t bytes);
// The largest block that serves it where none of its own size is free: twice as many bytes and 16 KiB. So a step of at
// least half the size of one before it finds nearly all of its blocks; a much smaller one does not hold large ones.
constexpr size_t largest_in_place_of(size_t bytes) { return 2 * bytes + (size_t{16} << 10); }

// Bytes that the driver of a CUDA device would still give, and those that the pool has of it to give again.
size_t free_device_memory(Device device);

// Bytes of a CUDA device that are neither free nor the pool's: the driver's context, the program's kernels, other
// programs, and free blocks of streams that graphs were recorded on. 0 where the machine has no such device.
size_t foreign_device_memory(Device device);

// Gives the pool's blocks that nobody uses back to the system or the driver.
void trim_storage(Device device);

void zero_bytes(Device device, void* data, size_t bytes);

// Where `rows` stretches of bytes begin, and how far apart they lie.
struct ByteRows {
  Device device;
  void* data;
  size_t stride;
};
// Copies rows of `row_bytes` each. A copy to the host has arrived when this returns; one to or within a device is done
// before what is queued on the thread's stream afterwards. Nothing is copied to or from the plan device.
void copy_rows(const ByteRows& to, const ByteRows& from, size_t row_bytes, size_t rows);

}  // namespace lathe
