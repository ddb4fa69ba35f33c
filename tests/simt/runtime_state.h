// What the files of the emulated CUDA runtime share.
#pragma once
#include <simt/engine.h>
#include <simt/runtime.h>

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace simt {

using Work = std::function<void()>;

struct Allocation {
  size_t bytes;
  int device;  // -1: pinned host memory
};

// The state of an event; work that waits for it keeps it alive.
struct EventState {
  uint64_t recorded = 0, done = 0;  // how often
  std::chrono::steady_clock::time_point at;
};

struct Task {
  Work run;
  std::shared_ptr<EventState> until;  // it waits until this event was `done` that often
  uint64_t times = 0;
};

struct Node {
  Work run;
  std::vector<size_t> after;
};

}  // namespace simt

struct CUgraph_st {
  std::vector<simt::Node> nodes;
  CUstream_st* origin = nullptr;  // while it is captured
  bool invalid = false;
};
struct CUgraphExec_st {
  std::vector<simt::Node> nodes;
};
struct CUstream_st {
  int device = 0;
  bool waits_for_null_stream = true;
  std::deque<simt::Task> queue;
  CUgraph_st* capture = nullptr;
  std::vector<size_t> frontier;  // the nodes that the next one comes after
};
struct CUevent_st {
  int device = 0;
  bool timed = true;
  std::shared_ptr<simt::EventState> state = std::make_shared<simt::EventState>();
  CUgraph_st* capture = nullptr;  // recorded while this was captured,
  std::vector<size_t> frontier;   // after these nodes
};

namespace simt {

struct Runtime {
  std::recursive_mutex mutex;
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::set<CUgraph_st*> graphs;
  std::set<CUgraphExec_st*> executables;
  std::map<const char*, Allocation> allocations;
  uint64_t random = 0;
};
extern Runtime runtime;

using Lock = std::lock_guard<std::recursive_mutex>;

int current_device();
// Remembers an error for cudaGetLastError.
cudaError_t result(cudaError_t error);
uint64_t random_below(uint64_t n);

// Puts work into a stream, or into the graph that the stream captures.
cudaError_t enqueue(cudaStream_t stream, Work work);
// Does work until all of a stream is done, or (null) of all that the null stream waits for.
void drain(cudaStream_t stream);
void drain_device(int device);
// An operation that no capture allows ends all captures; whether there were any.
bool breaks_capture();
bool in_capture(cudaStream_t stream);

// The allocation that holds all of these bytes; null: none.
const Allocation* find_allocation(const void* address, size_t bytes = 1);
void check_pointers(const Launch& launch, int device);
void reset_memory();

}  // namespace simt
