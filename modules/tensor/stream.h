// CUDA streams: the queue that a thread's kernels and copies on a device go to, in order.
#pragma once
#include "tensor/active.h"
#include "tensor/tensor.h"

struct CUstream_st;  // what cudaStream_t points to

namespace lathe {

// Makes a stream of a device the one that this thread uses while it lives. Without one, a thread uses the device's own
// first stream, which all such threads share.
class Stream {
 public:
  explicit Stream(Device device);  // Throws Error where there is no such device.
  ~Stream();

  // The stream that work of this thread on `device`, a CUDA device, is queued on; makes the device the thread's current
  // one. Throws Error in a build without CUDA, and where the machine has no such device.
  static CUstream_st* current(Device device);
  // The CUDA devices of this machine that this build can use: 0 without CUDA.
  static int devices();
  // Why a CUDA device beyond those cannot be used, for a message.
  static std::string why_not(Device device);
  // Waits until all of this thread's work on `device` is done; nothing on devices that do not queue.
  static void synchronise(Device device);
  // Throws Error when the call or the kernel launch before it failed.
  static void check_launch(const char* operation);

 private:
  Device device_;
  CUstream_st* stream_ = nullptr;
  Active<Stream> active_;
};

}  // namespace lathe
