// Kernels with one bug each, and correct ones that look like them: what finds which is the emulator's promise.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <vector>

#include "tests/catch.h"
#include "tests/simt/examples/examples.h"
#include "tests/simt/runtime.h"

#if SIMT_TSAN
// A race ends the program, as the other sanitizers' findings do. Nobody reads the reports of seeded bugs, whose lines
// take seconds to find (TSAN_OPTIONS=symbolize=1 shows them), and no thread is left that could race after the end.
extern "C" const char* __tsan_default_options() { return "halt_on_error=1:symbolize=0:atexit_sleep_ms=0"; }
#endif

namespace lathe::kernel {
namespace {

constexpr int T = 128;  // threads of a block

template <class Body>
void block(Body body) {
  simt::run(dim3(1), dim3(T), 0, body);
}
using Floats = std::vector<float>;
Floats unset(int n) { return Floats(static_cast<size_t>(n), NAN); }
template <class Expected>
bool every(const Floats& values, Expected expected) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!(values[i] == static_cast<float>(expected(static_cast<int>(i))))) return false;
  return true;
}
float index() { return static_cast<float>(threadIdx.x); }
constexpr int kSum = T * (T - 1) / 2;  // of all indices

// ---- reductions, exchanges ----
float sum_of_block(float value, bool before_read, bool before_reuse) {
  SHARED_ARRAY(float, of_warp, [T / 32]);
  const int lane = threadIdx.x % 32;
  value = warp_sum(value);
  if (lane == 0) of_warp[threadIdx.x / 32] = value;
  if (before_read) __syncthreads();
  const float sum = warp_sum(lane < T / 32 ? of_warp[lane] : 0.0f);
  if (before_reuse) __syncthreads();
  return sum;
}
bool sum_once(bool before_read) {
  Floats out = unset(T);
  block([&, o = out.data()] { o[threadIdx.x] = sum_of_block(index(), before_read, true); });
  return every(out, [](int) { return kSum; });
}
bool sum_twice(bool before_reuse) {
  Floats out = unset(T);
  block([&, o = out.data()] {
    const float sum = sum_of_block(index(), true, before_reuse);
    o[threadIdx.x] = sum_of_block(sum / T, true, before_reuse);
  });
  return every(out, [](int) { return kSum; });
}
bool reverse_block(bool wait) {
  Floats out = unset(T);
  block([&, o = out.data()] {
    SHARED_ARRAY(float, s, [T]);
    s[threadIdx.x] = index();
    if (wait) __syncthreads();
    o[threadIdx.x] = s[T - 1 - threadIdx.x];
  });
  return every(out, [](int i) { return T - 1 - i; });
}
bool reverse_warp(bool wait) {
  Floats out = unset(T);
  block([&, o = out.data()] {
    SHARED_ARRAY(float, s, [T]);
    s[threadIdx.x] = index();
    if (wait) __syncwarp();
    o[threadIdx.x] = s[threadIdx.x ^ 31];
  });
  return every(out, [](int i) { return i ^ 31; });
}

// ---- cp.async: three tiles through two buffers ----
bool staged(bool wait, bool before_refill) {
  Floats in(3 * T * 4), out = unset(3 * T * 4);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  block([&, from = in.data(), to = out.data()] {
    SHARED_ARRAY(float4, stages, [2][T]);
    const unsigned t = threadIdx.x;
    const auto load = [&](unsigned k) {
      cp_async16(&stages[k % 2][t], from + (k * T + t) * 4);
      cp_async_commit();
    };
    load(0);
    for (unsigned k = 0; k < 3; ++k) {
      if (k < 2) load(k + 1);
      if (!wait)
        cp_async_wait<2>();
      else if (k < 2)
        cp_async_wait<1>();
      else
        cp_async_wait<0>();
      __syncthreads();
      const unsigned other = T - 1 - t;
      *reinterpret_cast<float4*>(to + (k * T + other) * 4) = stages[k % 2][other];
      if (before_refill) __syncthreads();
    }
    cp_async_wait<0>();
  });
  return every(out, [](int i) { return i; });
}

// ---- several blocks ----
// The last block to finish adds up what all of them left.
bool last_block_sums(bool fence) {
  Floats parts = unset(8), out = unset(1);
  unsigned finished = 0;
  simt::run(dim3(8), dim3(T), 0, [&, p = parts.data(), o = out.data()] {
    SHARED_ARRAY(bool, last, [1]);
    const float sum = sum_of_block(1, true, true);
    if (threadIdx.x == 0) {
      p[blockIdx.x] = sum;
      if (fence) __threadfence();
      last[0] = atomicAdd(&finished, 1) == gridDim.x - 1;
      if (fence) __threadfence();
    }
    __syncthreads();
    if (!last[0] || threadIdx.x != 1) return;
    float total = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) total += p[i];
    o[0] = total;
  });
  return out[0] == 8 * T;
}
bool count_in_two_steps() {
  Floats out(1, 0);
  simt::run(dim3(8), dim3(T), 0, [&, o = out.data()] {
    SHARED_ARRAY(float, s, [1]);
    if (threadIdx.x == 0) s[0] = 0;
    __syncthreads();
    atomicAdd(&s[0], 1);
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(o, s[0]);
  });
  return out[0] == 8 * T;
}
bool add_from_blocks() {
  Floats out(1, 0);
  simt::run(dim3(4), dim3(T), 0, [&, o = out.data()] {
    if (threadIdx.x == 0) o[0] += 1;
  });
  return out[0] == 4;
}
bool add_in_block() {
  Floats out = unset(1);
  block([&, o = out.data()] {
    SHARED_ARRAY(float, s, [1]);
    if (threadIdx.x == 0) s[0] = 0;
    __syncthreads();
    s[0] += 1;
    __syncthreads();
    if (threadIdx.x == 0) o[0] = s[0];
  });
  return out[0] == T;
}
bool write_one_value_twice() {
  Floats out = unset(T / 2);
  block([&, o = out.data()] { o[threadIdx.x / 2] = 1; });
  return every(out, [](int) { return 1; });
}

// ---- warps ----
bool halves_of_warps() {
  Floats out = unset(T);
  block([&, o = out.data()] {
    float value = index();
    if (threadIdx.x & 16)
      value = __shfl_sync(0xffff0000u, value, 31);
    else
      value = __shfl_sync(0x0000ffffu, value, 0);
    o[threadIdx.x] = value;
  });
  return every(out, [](int i) { return i & 16 ? i | 31 : i & ~31; });
}
bool full_mask_by_half() {
  block([] {
    if (threadIdx.x % 32 < 16) __shfl_xor_sync(kAllLanes, 1.0f, 1);
  });
  return true;
}
bool lane_outside_of_mask() {
  block([] { __shfl_xor_sync(0xffffu, 1.0f, 1); });
  return true;
}
bool one_shuffle_on_two_lines() {
  block([] {
    if (threadIdx.x % 32 < 16)
      __shfl_xor_sync(kAllLanes, 1.0f, 1);
    else
      __shfl_xor_sync(kAllLanes, 1.0f, 1);
  });
  return true;
}
bool shuffle_as_barrier() {
  Floats out = unset(T);
  block([&, o = out.data()] {
    SHARED_ARRAY(float, s, [T]);
    s[threadIdx.x] = index();
    const int other = __shfl_xor_sync(kAllLanes, static_cast<int>(threadIdx.x), 1);
    o[threadIdx.x] = s[other];
  });
  return every(out, [](int i) { return i ^ 1; });
}

// ---- barriers ----
bool barrier_in_both_branches() {
  block([] {
    if (threadIdx.x < 32)
      __syncthreads();
    else
      __syncthreads();
  });
  return true;
}
bool barrier_of_some_warps() {
  block([] {
    if (threadIdx.x >= 32) __syncthreads();
  });
  return true;
}
bool return_before_barrier() {
  block([] {
    if (threadIdx.x >= 100) return;
    __syncthreads();
  });
  return true;
}
bool barrier_in_uneven_loop() {
  block([] {
    for (unsigned i = 0; i < 1 + threadIdx.x % 2; ++i) __syncthreads();
  });
  return true;
}
bool shuffle_beside_barrier() {  // half of each warp waits for the other half, which waits for the block
  block([] {
    if (threadIdx.x % 32 < 16) __syncwarp();
    __syncthreads();
  });
  return true;
}

// ---- memory ----
bool beyond_static_shared() {
  block([] {
    SHARED_ARRAY(float, s, [T]);
    s[threadIdx.x + 1] = 1;
  });
  return true;
}
bool beyond_dynamic_shared() {
  simt::run(dim3(1), dim3(T), T * sizeof(float), [] {
    DYN_SHARED(float, s);
    s[threadIdx.x + 1] = 1;
  });
  return true;
}
bool beyond_global() {
  Floats out = unset(T);
  block([&, o = out.data()] { o[threadIdx.x + 1] = 1; });
  return true;
}
bool unset_shared() {
  Floats out = unset(T);
  block([&, o = out.data()] {
    SHARED_ARRAY(float, s, [T]);
    if (threadIdx.x < 64) s[threadIdx.x] = 0;
    __syncthreads();
    o[threadIdx.x] = s[threadIdx.x];
  });
  return every(out, [](int) { return 0; });
}
bool misaligned_vector() {
  Floats in(T * 4 + 4, 1), out = unset(T);
  block([&, from = in.data(), o = out.data()] {
    o[threadIdx.x] = reinterpret_cast<const float4*>(from + 1 + threadIdx.x * 4)->x;
  });
  return every(out, [](int) { return 1; });
}
bool misaligned_matrix_row() {
  block([] {
    SHARED_ARRAY(bf16, s, [16 * 24]);
    for (int i = threadIdx.x; i < 16 * 24; i += T) s[i] = to_bf16(1);
    __syncthreads();
    uint32_t matrices[4];
    ldmatrix_x4(matrices, s + threadIdx.x % 16 * 20);
  });
  return true;
}
bool too_much_shared() {
  simt::run(dim3(1), dim3(32), 227 << 10, [] {
    SHARED_ARRAY(float, s, [4]);
    s[0] = 0;
  });
  return true;
}
bool empty_grid() {
  simt::run(dim3(0), dim3(32), 0, [] {});
  return true;
}
bool host_reads_device_memory() {
  float* x = nullptr;
  cudaMalloc(&x, sizeof(float));
  cudaMemset(x, 0, sizeof(float));
  return *const_cast<volatile float*>(x) == 0;
}

// What a kernel's run shows: '.' nothing; 'W' a wrong result; 'E' simt::Error; 'S' a sanitizer (or a signal) ends it.
struct Case {
  const char* name;
  // Without a sanitizer: threads forward, reverse, at random with late copies, then with early ones; '?': either.
  const char* plain;
  char asan, tsan;  // threads at random, late copies
  bool (*right)();
};
constexpr char kQuiet[] = "......", kWrong[] = "WWWWWW", kError[] = "EEEEEE";

constexpr Case kCorrect[] = {
    {"a block reverses an array", kQuiet, '.', '.', [] { return reverse_block(true); }},
    {"two sums of a block", kQuiet, '.', '.', [] { return sum_twice(true); }},
    {"warps exchange values behind __syncwarp", kQuiet, '.', '.', [] { return reverse_warp(true); }},
    {"cp.async through two buffers", kQuiet, '.', '.', [] { return staged(true, true); }},
    {"atomics in shared and global memory", kQuiet, '.', '.', count_in_two_steps},
    {"masks of half a warp", kQuiet, '.', '.', halves_of_warps},
    {"the last block sums, with __threadfence", kQuiet, '.', '.', [] { return last_block_sums(true); }},
};
constexpr Case kBugs[] = {
    {"the last block sums, without __threadfence", kQuiet, '.', 'S', [] { return last_block_sums(false); }},
    {"__syncthreads in both branches", kError, 'E', 'E', barrier_in_both_branches},
    {"__syncthreads that one warp skips", kError, 'E', 'E', barrier_of_some_warps},
    {"return, then __syncthreads", kError, 'E', 'E', return_before_barrier},
    {"__syncthreads in a loop of uneven length", kError, 'E', 'E', barrier_in_uneven_loop},
    {"half of each warp at __syncwarp, half at __syncthreads", kError, 'E', 'E', shuffle_beside_barrier},
    {"a full mask, by half a warp", kError, 'E', 'E', full_mask_by_half},
    {"a lane that is not in its mask", kError, 'E', 'E', lane_outside_of_mask},
    {"one shuffle of a warp on two lines", kError, 'E', 'E', one_shuffle_on_two_lines},
    {"no __syncthreads between write and read", kWrong, 'W', 'S', [] { return reverse_block(false); }},
    {"a sum of a block without its first barrier", kWrong, 'W', 'S', [] { return sum_once(false); }},
    {"two sums of a block without a barrier between them", ".W?.W?", '?', 'S', [] { return sum_twice(false); }},
    {"no __syncwarp between write and read", kWrong, 'W', 'S', [] { return reverse_warp(false); }},
    {"a shuffle taken for a barrier", kQuiet, '.', 'S', shuffle_as_barrier},
    {"a write beyond a shared array", kError, 'S', 'E', beyond_static_shared},
    {"a write beyond dynamic shared memory", kError, 'S', 'E', beyond_dynamic_shared},
    {"a write beyond global memory", kQuiet, 'S', '?', beyond_global},
    {"a read of shared memory that nobody wrote", kWrong, 'W', 'W', unset_shared},
    {"cp.async without a wait", "WWW...", 'W', 'W', [] { return staged(false, true); }},
    {"a buffer that is filled while it is read", "...WWW", '.', 'S', [] { return staged(true, false); }},
    {"blocks add to one word", kQuiet, '.', 'S', add_from_blocks},
    {"threads add to one word", kQuiet, '.', 'S', add_in_block},
    {"two threads write one value", kQuiet, '.', 'S', write_one_value_twice},
    {"a misaligned float4", kQuiet, 'S', '.', misaligned_vector},
    {"a misaligned row of ldmatrix", kError, 'E', 'E', misaligned_matrix_row},
    {"shared memory beyond 227 KiB", kError, 'E', 'E', too_much_shared},
    {"a grid without a block", kError, 'E', 'E', empty_grid},
    {"the host reads device memory", "SSSSSS", 'S', 'S', host_reads_device_memory},
};

// Runs a case in a child, which a sanitizer may end.
char outcome(const Case& tried, simt::Order order, simt::CopyAsync copies) {
  enum { kRight = 50, kFalse, kThrown };
  const pid_t child = fork();
  if (child == 0) {
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDERR_FILENO);
    std::signal(SIGSEGV, SIG_DFL);  // Catch's handler is for faults of tests
    simt::config.order = order;
    simt::config.copies = copies;
    try {
      _exit(tried.right() ? kRight : kFalse);
    } catch (const simt::Error&) {
      _exit(kThrown);
    }
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  if (!WIFEXITED(status)) return 'S';
  switch (WEXITSTATUS(status)) {
    case kRight: return '.';
    case kFalse: return 'W';
    case kThrown: return 'E';
    default: return 'S';
  }
}

void check(const Case& tried) {
  INFO(tried.name);
  using simt::CopyAsync, simt::Order;
  if (SIMT_ASAN || SIMT_TSAN) {
    const char expected = SIMT_TSAN ? tried.tsan : tried.asan, found = outcome(tried, Order::random, CopyAsync::late);
    if (expected != '?') CHECK(found == expected);
    return;
  }
  std::string expected = tried.plain, found;
  for (const CopyAsync copies : {CopyAsync::late, CopyAsync::early})
    for (const Order order : {Order::forward, Order::reverse, Order::random}) found += outcome(tried, order, copies);
  for (size_t i = 0; i < expected.size(); ++i)
    if (expected[i] == '?') expected[i] = found[i];
  CHECK(found == expected);
}

TEST_CASE("Correct kernels are found no fault with") {
  for (const Case& correct : kCorrect) check(correct);
}
TEST_CASE("Each bug is found in the builds and schedules that can show it") {
  for (const Case& bug : kBugs) {
    check(bug);
    const std::string everywhere = std::string(bug.plain) + bug.asan + bug.tsan;
    CHECK(everywhere.find_first_of("WES") != std::string::npos);
  }
}

}  // namespace
}  // namespace lathe::kernel
