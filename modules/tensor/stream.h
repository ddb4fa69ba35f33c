// CUDA streams: the queue that a thread's kernels and copies on a device go to, in order; and graphs, work of a stream
// that was recorded once and is queued again as one.
#pragma once
#include <algorithm>
#include <functional>
#include <string>

#include "tensor/active.h"
#include "tensor/tensor.h"

struct CUstream_st;  // what cudaStream_t points to
struct CUgraphExec_st;

namespace lathe {

class Stream {
 public:
  explicit Stream(Device device);  // Throws Error where there is no such device.
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  Device device() const { return device_; }

  // Makes a stream the one that this thread uses for its device. Without one, a thread uses the device's own first
  // stream, which all such threads share.
  using Scope = Active<const Stream>;
  // The stream that work of this thread on `device`, a CUDA device, is queued on; makes the device the thread's current
  // one. Throws Error in a build without CUDA, and where the machine has no such device.
  static CUstream_st* current(Device device);
  static bool built_in();  // whether this program is built with CUDA
  // The CUDA devices of this machine that this build can use: 0 without CUDA.
  static int devices();
  static std::string device_name(Device device);  // "NVIDIA H100 80GB HBM3"
  // Why a CUDA device beyond those cannot be used, for a message.
  static std::string why_not(Device device);
  // Waits until all of this thread's work on `device` is done; nothing on devices that do not queue.
  static void synchronise(Device device);
  // Throws Error when the call or the kernel launch before it failed.
  static void check_launch(const char* operation);

 private:
  friend class Graph;
  Device device_;
  CUstream_st* stream_ = nullptr;
};

// Something is done on the host, or memory asked for, where work is being recorded.
struct NotRecordable : Error {
  using Error::Error;
};

// What `work` queues, to be queued again. It is recorded on a stream of its own, whose memory (tensor/cuda.h) no other
// work is given: tensors that `work` makes and drops lie there, and those that it keeps have the results of the last
// replay. It may read nothing on the host, and what changes from replay to replay must lie on the device.
class Graph {
 public:
  // Calls `work` twice: the first time it runs, and finds its memory; the second time it is recorded, and nothing runs.
  // Throws what `work` throws, and NotRecordable behind its run.
  Graph(const Stream& recording, const std::function<void()>& work);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void replay() const;  // on the thread's stream

  // So far, over all graphs of the process.
  struct Counts {
    int64_t recorded = 0, replayed = 0;
  };
  static Counts counts();

 private:
  Device device_;
  [[maybe_unused]] CUgraphExec_st* executable_ = nullptr;
  [[maybe_unused]] mutable CUstream_st* stream_ = nullptr;  // of the last replay
};

// Of a map to what graphs are kept for, the one whose last_used is least goes.
template <class Kept>
void drop_least_used(Kept& kept) {
  kept.erase(std::min_element(kept.begin(), kept.end(),
                              [](const auto& a, const auto& b) { return a.second->last_used < b.second->last_used; }));
}

}  // namespace lathe
