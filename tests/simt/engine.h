// The block that runs: its threads, warps, barrier and shared memory.
#pragma once
#include <simt/fiber.h>
#include <simt/simt.h>

namespace simt {

inline constexpr unsigned kMaxThreads = 1024;  // a block

enum class State : uint8_t { ready, at_barrier, at_collective, done };

// A cp.async that has not landed.
struct Copy {
  void* to;
  const void* from;
  unsigned bytes, bytes_read, group;
};
// Grows, and is freed with its thread. No std::vector, whose accesses the race detector would take for the kernel's.
struct Copies {
  Copy* data = nullptr;
  unsigned count = 0, capacity = 0;
};

struct Thread {
  Context context;
  uint3 index;
  int warp, lane;
  State state;
  Location at;            // where it waits
  const char* operation;  // the collective that it waits in
  void* argument;         // what it brought there
  void* gate;             // what the collective's last lane released
  Copies copies;
  unsigned copy_group;  // groups committed
  bool fenced;          // __threadfence since it began
  void* last_atomic;
};

// Lanes of one warp that wait for each other.
struct Collective {
  unsigned mask, arrived;
  const char* name;
  Location at;
};

struct Warp {
  unsigned exist, exited;  // lanes
  Collective waiting[32];
  int count;
  unsigned serial;
};

struct SharedArray {
  const void* tag;
  char* data;
  size_t bytes;
};

struct Block {
  Context launcher;
  Thread* threads = nullptr;
  Thread* running = nullptr;  // null: the launching thread
  int count = 0, alive = 0;
  int ready[2 * kMaxThreads];  // a ring
  unsigned ready_first = 0, ready_count = 0;
  Warp warps[kMaxThreads / 32];

  int arrived = 0;  // at the barrier
  unsigned barrier_phase = 0;
  Location barrier_at;
  Votes votes{}, result{};

  char* arena = nullptr;  // static arrays, dynamic memory, addresses for the race detector
  size_t used = 0;        // bytes of static arrays, with a red zone before and behind each
  size_t dynamic_bytes = 0;
  SharedArray arrays[64];
  int array_count = 0;

  const Launch* launch = nullptr;
  // For the race detector, to which addresses in 8 bytes are one: a block begins after the one, the launch ends after
  // the other.
  uint64_t begin = 0, end = 0;
  char error[512];  // empty: none
  uint64_t random = 1;
};
extern Block block;

// Throws simt::Error for a launch that CUDA would refuse.
void check_geometry(const Launch& launch);

}  // namespace simt
