// Runs CUDA kernels on the CPU, to find their faults: what a kernel file sees in place of CUDA's own headers.
//
// A CUDA thread is a fiber. Blocks run one after another; the threads of a block run until a barrier, a warp collective
// or their end, and the next one is taken in order, in reverse order or at random. README.md says what is found, and
// in which build.
#pragma once
#include <simt/cuda_names.h>

#include <tuple>
#include <type_traits>

// What the emulator itself reads and writes is no access of the kernel: the race detector must not see it.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIMT_RAW __attribute__((disable_sanitizer_instrumentation, noinline))  // inlined, it would be instrumented
#endif
#elif defined(__SANITIZE_THREAD__)
#define SIMT_RAW __attribute__((no_sanitize("thread")))
#endif
#if !defined(SIMT_RAW)
#define SIMT_RAW
#endif

using cudaStream_t = struct CUstream_st*;

extern uint3 threadIdx, blockIdx;  // of the fiber that runs
extern dim3 blockDim, gridDim;

namespace simt {

// A line of a kernel; as a default argument, the caller's.
struct Location {
  const char* file = nullptr;
  unsigned line = 0;
  static constexpr Location here(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    return {file, line};
  }
};

enum class Order { forward, reverse, random };
// When the bytes of a cp.async land: at the wait (finds a missing wait) or at once (finds a buffer filled too soon).
enum class CopyAsync { late, early };

struct Config {
  Order order = Order::forward;
  CopyAsync copies = CopyAsync::late;
  uint64_t seed = 1;
  size_t max_shared_memory = 227 << 10;  // bytes a block, static and dynamic: sm_80's 163 KiB, sm_90's 227 KiB
  size_t stack = 64 << 10;               // bytes a thread
};
extern Config config;

struct Statistics {
  uint64_t blocks, threads, resumes;      // a resume is one step of one thread, from a switch to the next
  uint64_t barriers, warp_operations;     // one a thread
  uint64_t matrix_products;               // mma.sync, one a warp
  uint64_t matrix_loads, bank_conflicts;  // ldmatrix, one a warp; wavefronts above one a matrix
  uint64_t shared_memory_peak;            // bytes of one block
};
extern Statistics statistics;

// Called by a kernel's thread: ends the launch, which throws simt::Error (schedules.h) with message, block and thread.
[[noreturn]] void fail(Location at, const char* format, ...) __attribute__((format(printf, 2, 3)));

// A launch with its arguments by value, as CUDA keeps it.
struct Launch {
  const char* name;
  dim3 grid, block;
  size_t dynamic_shared_memory;
  const void* const* pointers = nullptr;  // its parameters: pointers, and null for what is none
  unsigned pointer_count = 0;
  virtual ~Launch() = default;
  virtual void run_thread() const = 0;

 protected:
  Launch(const char* name, dim3 grid, dim3 block, size_t shared)
      : name(name), grid(grid), block(block), dynamic_shared_memory(shared) {}
};
// Runs it to its end. Throws simt::Error for a fault of the kernel.
void run(const Launch& launch);
// Gives it to a stream, which owns it from then on.
void submit(cudaStream_t stream, Launch* launch);

template <class T>
const void* as_pointer(T* pointer) {
  return pointer;
}
template <class T>
const void* as_pointer(const T& /*no pointer*/) {
  return nullptr;
}
template <class... Parameters>
struct KernelLaunch final : Launch {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> values;
  const void* pointer_values[sizeof...(Parameters) + 1];

  KernelLaunch(const char* name, dim3 grid, dim3 block, size_t shared, void (*kernel)(Parameters...),
               Parameters... values)
      : Launch(name, grid, block, shared), kernel(kernel), values(values...), pointer_values{as_pointer(values)...} {
    pointers = pointer_values;
    pointer_count = sizeof...(Parameters);
  }
  void run_thread() const override { std::apply(kernel, values); }
};

// What LAUNCH does: parameters are copied, and converted to the kernel's types, as the launch is made.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
            Arguments... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "parameters of kernels are copied as bytes");
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "a kernel takes 4 KiB of parameters at most");
  submit(stream, new KernelLaunch<Parameters...>(name, grid, block, shared, kernel, arguments...));
}
// For tests: runs a lambda as a kernel, at once.
template <class Body>
void run(dim3 grid, dim3 block, size_t shared, Body body) {
  struct Call final : Launch {
    const Body& body;
    Call(dim3 grid, dim3 block, size_t shared, const Body& body)
        : Launch("a test's kernel", grid, block, shared), body(body) {}
    void run_thread() const override { body(); }
  };
  run(static_cast<const Launch&>(Call(grid, block, shared, body)));
}

// ---- what kernels call ----
void* shared_memory(const void* tag, size_t bytes, size_t alignment);  // one array a tag and block
void* dynamic_shared_memory();
struct Votes {
  int any, all, count;
};
Votes barrier(int predicate, Location at);

// One primitive serves every operation of a warp: each lane of `mask` brings a pointer; the last lane to arrive runs
// `act` over the 32 pointers (null for lanes outside of the mask). `orders_memory`: as __syncwarp does.
using WarpAction = void (*)(void* const* lanes);
void collective(const char* name, unsigned mask, void* lane, WarpAction act, bool orders_memory, Location at);
int lane_index();
// Fails unless `source` is a lane of the mask that exists.
void check_source_lane(const char* name, unsigned mask, int source, Location at);
void before_atomic(void* address);
void fence();

template <class T>
struct Shuffle {
  T value, result;
  int source;
};
template <class T>
SIMT_RAW void act_shuffle(void* const* lanes) {
  for (int i = 0; i < 32; ++i)
    if (auto* lane = static_cast<Shuffle<T>*>(lanes[i]))
      lane->result = static_cast<Shuffle<T>*>(lanes[lane->source])->value;
}
template <class T>
SIMT_RAW T shuffle(const char* name, unsigned mask, T value, int source, Location at) {
  check_source_lane(name, mask, source, at);
  Shuffle<T> lane{value, value, source};
  collective(name, mask, &lane, act_shuffle<T>, false, at);
  return lane.result;
}

enum class Reduction { ballot, add, min, max, bit_or, bit_and };
unsigned reduce(const char* name, Reduction kind, unsigned mask, unsigned value, Location at);

// Real atomic instructions, so that the race detector takes them for what they are. They order other memory only
// together with __threadfence.
template <class T, class F>
T atomic(T* address, F change) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
  using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;
  before_atomic(address);
  auto* word = reinterpret_cast<Bits*>(address);
  Bits old = __atomic_load_n(word, __ATOMIC_RELAXED), changed;
  do changed = std::bit_cast<Bits>(static_cast<T>(change(std::bit_cast<T>(old))));
  while (!__atomic_compare_exchange_n(word, &old, changed, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return std::bit_cast<T>(old);
}

// The fragments of PTX: mma.m16n8k16 (row.col, f32 sums) with its operands in bf16; ldmatrix.x4; cp.async.
void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Location at);
void load_matrices(uint32_t (&matrices)[4], const void* row, bool transpose, Location at);
void copy_async(void* shared, const void* global, unsigned bytes, unsigned bytes_read, Location at);
void copy_async_commit();
void copy_async_wait(unsigned groups_left);

}  // namespace simt

// ---- CUDA's names ----
inline void __syncthreads(simt::Location at = simt::Location::here()) { simt::barrier(0, at); }
inline int __syncthreads_or(int p, simt::Location at = simt::Location::here()) { return simt::barrier(p, at).any; }
inline int __syncthreads_and(int p, simt::Location at = simt::Location::here()) { return simt::barrier(p, at).all; }
inline int __syncthreads_count(int p, simt::Location at = simt::Location::here()) { return simt::barrier(p, at).count; }
inline void __syncwarp(unsigned mask = ~0u, simt::Location at = simt::Location::here()) {
  simt::collective("__syncwarp", mask, nullptr, nullptr, true, at);
}
inline void __threadfence() { simt::fence(); }
inline void __threadfence_block() { simt::fence(); }

// `width` cuts the warp into groups; a source outside of the group is the lane itself (xor: in a later group only).
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, simt::Location at = simt::Location::here()) {
  return simt::shuffle("__shfl_sync", mask, value, (simt::lane_index() & ~(width - 1)) | (source & (width - 1)), at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, simt::Location at = simt::Location::here()) {
  const int lane = simt::lane_index(), source = lane ^ bits;
  return simt::shuffle("__shfl_xor_sync", mask, value, source / width > lane / width ? lane : source, at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32, simt::Location at = simt::Location::here()) {
  const int lane = simt::lane_index(), source = lane + delta;
  return simt::shuffle("__shfl_down_sync", mask, value, source / width > lane / width ? lane : source, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int delta, int width = 32, simt::Location at = simt::Location::here()) {
  const int lane = simt::lane_index(), source = lane - delta;
  return simt::shuffle("__shfl_up_sync", mask, value, source < (lane & ~(width - 1)) ? lane : source, at);
}
#define SIMT_REDUCTION(Result, name, kind, Value, value)                                                            \
  inline Result name(unsigned mask, Value v, simt::Location at = simt::Location::here()) {                          \
    return static_cast<Result>(simt::reduce(#name, simt::Reduction::kind, mask, static_cast<unsigned>(value), at)); \
  }
SIMT_REDUCTION(unsigned, __ballot_sync, ballot, int, v != 0)
SIMT_REDUCTION(int, __any_sync, bit_or, int, v != 0)
SIMT_REDUCTION(int, __all_sync, bit_and, int, v != 0)
SIMT_REDUCTION(unsigned, __reduce_add_sync, add, unsigned, v)
SIMT_REDUCTION(unsigned, __reduce_min_sync, min, unsigned, v)
SIMT_REDUCTION(unsigned, __reduce_max_sync, max, unsigned, v)
SIMT_REDUCTION(unsigned, __reduce_or_sync, bit_or, unsigned, v)
SIMT_REDUCTION(unsigned, __reduce_and_sync, bit_and, unsigned, v)
#undef SIMT_REDUCTION

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return simt::atomic(address, [=](T old) { return old + value; });
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return simt::atomic(address, [=](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return simt::atomic(address, [=](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return simt::atomic(address, [=](T old) { return old | value; });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return simt::atomic(address, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return simt::atomic(address, [=](T old) { return old == expected ? value : old; });
}
