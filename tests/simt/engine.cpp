// Runs launches block by block. Threads switch at barriers, collectives and their end only.
#include <simt/engine.h>
#include <simt/schedules.h>
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt {

Config config;
Statistics statistics;
Block block;

namespace {

constexpr size_t kArena = 256 << 10;     // of static arrays; as much again of dynamic memory
constexpr size_t kRedZone = 32;          // bytes at least before and behind each array
constexpr uint64_t kNan = ~uint64_t{0};  // all bits set: NaN in every float format
constexpr size_t kOrderAddresses = 8 * (64 + 96 * (kMaxThreads / 32));
constexpr size_t kMapped = 2 * kArena + ((kOrderAddresses + 4095) & ~size_t{4095});

// Addresses by which the race detector knows barriers and collectives. They lie in the block's own mapping: blocks of
// one launch must not order each other.
SIMT_RAW void* order_address(size_t i) { return block.arena + 2 * kArena + 8 * i; }

// ---- who runs next ----
SIMT_RAW void push_ready(int thread) {
  block.ready[(block.ready_first + block.ready_count++) % (2 * kMaxThreads)] = thread;
}
SIMT_RAW int pop_ready() {
  const auto at = [](unsigned i) SIMT_RAW -> int& { return block.ready[(block.ready_first + i) % (2 * kMaxThreads)]; };
  unsigned last = --block.ready_count;
  if (config.order == Order::forward) {
    const int thread = at(0);
    ++block.ready_first;
    return thread;
  }
  if (config.order == Order::random) {  // xorshift64
    block.random ^= block.random << 13;
    block.random ^= block.random >> 7;
    block.random ^= block.random << 17;
    int& chosen = at(static_cast<unsigned>(block.random % (last + 1)));
    const int thread = chosen;
    chosen = at(last);
    return thread;
  }
  return at(last);
}
SIMT_RAW void switch_to(Thread* to, bool ends) {
  Thread* from = block.running;
  if (from == to) return;
  block.running = to;
  if (to != nullptr) {
    threadIdx = to->index;
    ++statistics.resumes;
  }
  (from != nullptr ? from->context : block.launcher).switch_to(to != nullptr ? to->context : block.launcher, ends);
}
SIMT_RAW void run_next(bool ends = false) {
  switch_to(block.ready_count > 0 ? &block.threads[pop_ready()] : nullptr, ends);
}

SIMT_RAW bool same(const char* a, const char* b) { return a == b || strcmp(a, b) == 0; }
SIMT_RAW bool same_line(Location a, Location b) { return a.line == b.line && same(a.file, b.file); }

SIMT_RAW Thread& running() {
  if (block.running == nullptr) throw Error("a function of kernels was called outside of a kernel");
  return *block.running;
}

// ---- the barrier ----
SIMT_RAW void complete_barrier() {
  block.arrived = 0;
  ++block.barrier_phase;
  block.result = block.votes;
  block.votes = {0, 1, 0};
  for (int i = 0; i < block.count; ++i) {
    Thread& thread = block.threads[i];
    if (thread.state != State::at_barrier) continue;
    thread.state = State::ready;
    if (&thread != block.running) push_ready(i);
  }
}

// ---- cp.async ----
// Instrumented: these bytes are read and written for the kernel.
__attribute__((noinline)) void land(const Copy& copy) {
  memcpy(copy.to, copy.from, copy.bytes_read);
  memset(static_cast<char*>(copy.to) + copy.bytes_read, 0, copy.bytes - copy.bytes_read);
}

// ---- the life of a thread ----
SIMT_RAW void end_thread() {
  Thread& thread = *block.running;
  if (thread.copies.count > 0) fail({}, "a thread ends with cp.async copies that it never waited for");
  thread.state = State::done;
  --block.alive;
  Warp& warp = block.warps[thread.warp];
  warp.exited |= 1u << thread.lane;
  for (int i = 0; i < warp.count; ++i)
    if (warp.waiting[i].mask >> thread.lane & 1)
      fail(warp.waiting[i].at, "%s: a lane of the mask exited", warp.waiting[i].name);
  if (block.arrived > 0) fail(block.barrier_at, "a thread exits while %d wait at __syncthreads", block.arrived);
  release(&block.end);
  run_next(true);
}
SIMT_RAW void thread_entry() {
  block.running->context.entered();
  acquire(&block.begin);
  block.launch->run_thread();
  end_thread();
  std::abort();
}

// Threads are kept from launch to launch. The race detector gets two sets in turn, so that thread t of a block is
// another one than thread t of the next block.
struct Pool {
  std::unique_ptr<Thread[]> threads;
  size_t size = 0, stack = 0;
  ~Pool() { resize(0); }
  void resize(size_t wanted) {
    for (size_t i = 0; i < size; ++i) {
      threads[i].context.destroy();
      std::free(threads[i].copies.data);
    }
    threads = wanted > 0 ? std::make_unique<Thread[]>(wanted) : nullptr;
    for (size_t i = 0; i < wanted; ++i) threads[i].context.make(config.stack);
    size = wanted;
    stack = config.stack;
  }
};
Pool pool;

// ---- blocks ----
// Whole words from a multiple of 8. Volatile, lest it become a memset, which the race detector would see.
SIMT_RAW void fill_with_nan(char* from, size_t bytes) {
  auto* words = reinterpret_cast<volatile uint64_t*>(from);
  for (size_t i = 0; i < (bytes + 7) / 8; ++i) words[i] = kNan;
}

SIMT_RAW void prepare_shared_memory() {
  if (block.arena != nullptr) allow(block.arena, 2 * kArena);
  if (block.arena == nullptr || kFindsRaces) {  // a new mapping: the race detector forgets what it knew of the last one
    if (block.arena != nullptr) munmap(block.arena, kMapped);
    void* memory = mmap(nullptr, kMapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    block.arena = static_cast<char*>(memory);
  }
  block.array_count = 0;
  block.used = kRedZone;  // static arrays are filled as a block comes to them
  fill_with_nan(block.arena, kRedZone);
  fill_with_nan(block.arena + kArena, block.dynamic_bytes + kRedZone);
  forbid(block.arena, kArena);
  forbid(block.arena + kArena + block.dynamic_bytes, kArena - block.dynamic_bytes);
}

SIMT_RAW bool is_nan(const char* from, const char* to) {
  for (; from < to; ++from)
    if (*from != static_cast<char>(kNan)) return false;
  return true;
}
// For builds without AddressSanitizer, which knows better where it was.
SIMT_RAW bool red_zones_are_intact() {
  if (SIMT_ASAN) return true;
  const char *from = block.arena, *dynamic_end = block.arena + kArena + block.dynamic_bytes;
  for (int i = 0; i < block.array_count; ++i) {
    if (!is_nan(from, block.arrays[i].data)) return false;
    from = block.arrays[i].data + block.arrays[i].bytes;
  }
  return is_nan(from, block.arena + block.used) && is_nan(dynamic_end, dynamic_end + kRedZone);
}

void describe_deadlock() {
  size_t length = 0;
  const auto add = [&](const char* format, auto... values) {
    if (length < sizeof block.error)
      length +=
          static_cast<size_t>(std::snprintf(block.error + length, sizeof block.error - length, format, values...));
  };
  add("%s", "deadlock: no thread can go on");
  for (int i = 0; i < block.count; ++i) {
    const Thread& thread = block.threads[i];
    if (thread.state == State::done) continue;
    const Thread* before = i > 0 ? &block.threads[i - 1] : nullptr;
    if (before != nullptr && before->state == thread.state && same_line(before->at, thread.at)) continue;
    add("; thread %d and on: %s, %s:%u", i, thread.state == State::at_barrier ? "__syncthreads" : thread.operation,
        thread.at.file, thread.at.line);
  }
}

SIMT_RAW void run_block(int threads) {
  block.count = block.alive = threads;
  block.ready_first = block.ready_count = 0;
  block.arrived = 0;
  block.votes = {0, 1, 0};
  for (Warp& warp : block.warps) warp.exist = warp.exited = 0, warp.count = 0;
  prepare_shared_memory();
  for (int i = 0; i < threads; ++i) {
    Thread& thread = block.threads[i];
    const auto n = static_cast<unsigned>(i);
    thread.index = {n % blockDim.x, n / blockDim.x % blockDim.y, n / (blockDim.x * blockDim.y)};
    thread.warp = i / 32;
    thread.lane = i % 32;
    thread.state = State::ready;
    thread.copies.count = 0;
    thread.copy_group = 0;
    thread.fenced = false;
    thread.last_atomic = nullptr;
    thread.context.start_at(thread_entry);
    block.warps[n / 32].exist |= 1u << thread.lane;
    push_ready(i);
  }
  release(&block.begin);
  run_next();
  acquire(block.error);
  if (block.error[0] != 0) return;
  if (block.alive > 0) return describe_deadlock();
  if (!red_zones_are_intact()) std::strcpy(block.error, "a thread wrote outside of its block's shared arrays");
  ++statistics.blocks;
  statistics.threads += static_cast<uint64_t>(threads);
}

SIMT_RAW void set_dimensions(const Launch& launch) {
  gridDim = launch.grid;
  blockDim = launch.block;
}
SIMT_RAW void set_block(uint64_t b) {
  blockIdx = {static_cast<unsigned>(b % gridDim.x), static_cast<unsigned>(b / gridDim.x % gridDim.y),
              static_cast<unsigned>(b / (uint64_t{gridDim.x} * gridDim.y))};
}

}  // namespace

void check_geometry(const Launch& launch) {
  const auto& [x, y, z] = launch.grid;
  const uint64_t threads = uint64_t{launch.block.x} * launch.block.y * launch.block.z;
  std::string what;
  if (threads < 1 || threads > kMaxThreads || launch.block.z > 64)
    what = "a block of " + std::to_string(threads) + " threads";
  if (x < 1 || y < 1 || z < 1 || x > 0x7fffffffu || y > 65535 || z > 65535)
    what = "a grid of " + std::to_string(x) + " x " + std::to_string(y) + " x " + std::to_string(z) + " blocks";
  if (launch.dynamic_shared_memory > config.max_shared_memory)
    what = std::to_string(launch.dynamic_shared_memory) + " bytes of shared memory";
  if (!what.empty()) throw Error(std::string(launch.name) + ": " + what + " is more, or less, than a launch can have");
}

void fail(Location at, const char* format, ...) {
  char message[256], line[200] = "";
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  if (at.file != nullptr) std::snprintf(line, sizeof line, " at %s:%u", at.file, at.line);
  const uint3 t = running().index;
  std::snprintf(block.error, sizeof block.error, "%s [thread %u,%u,%u]%s", message, t.x, t.y, t.z, line);
  release(block.error);
  block.ready_count = 0;
  switch_to(nullptr, true);
  std::abort();
}

void run(const Launch& launch) {
  static std::mutex one_launch;
  const std::lock_guard lock(one_launch);
  check_geometry(launch);
  const unsigned threads = launch.block.x * launch.block.y * launch.block.z, sets = kFindsRaces ? 2 : 1;
  if (pool.size < sets * threads || pool.stack != config.stack) pool.resize(sets * threads);
  block.launcher.adopt_thread();
  block.launch = &launch;
  block.error[0] = 0;
  block.random = config.seed * 0x9E3779B97F4A7C15ull | 1;
  block.dynamic_bytes = launch.dynamic_shared_memory;
  set_dimensions(launch);
  const uint64_t blocks = uint64_t{gridDim.x} * gridDim.y * gridDim.z;
  for (uint64_t i = 0; i < blocks && block.error[0] == 0; ++i) {
    set_block(config.order == Order::reverse ? blocks - 1 - i : i);
    block.threads = pool.threads.get() + i % sets * threads;
    run_block(static_cast<int>(threads));
  }
  acquire(&block.end);
  if (block.error[0] == 0) return;
  pool.resize(0);  // its threads were left in the middle of their work
  const std::string at =
      std::to_string(blockIdx.x) + "," + std::to_string(blockIdx.y) + "," + std::to_string(blockIdx.z);
  throw Error(std::string(launch.name) + ": " + block.error + " [block " + at + "]");
}

SIMT_RAW Votes barrier(int predicate, Location at) {
  Thread& thread = running();
  ++statistics.barriers;
  if (block.arrived > 0 && !same_line(block.barrier_at, at))
    fail(at, "divergent __syncthreads: others of the block wait at line %u", block.barrier_at.line);
  if (block.alive != block.count)
    fail(at, "__syncthreads after %d thread(s) of the block exited", block.count - block.alive);
  block.barrier_at = thread.at = at;
  block.votes.any |= predicate != 0;
  block.votes.all &= predicate != 0;
  block.votes.count += predicate != 0;
  void* order = order_address(block.barrier_phase & 1);
  release(order);
  thread.state = State::at_barrier;
  if (++block.arrived == block.alive)
    complete_barrier();
  else
    run_next();
  acquire(order);
  return block.result;
}

SIMT_RAW int lane_index() { return running().lane; }

SIMT_RAW void check_source_lane(const char* name, unsigned mask, int source, Location at) {
  if (mask & block.warps[running().warp].exist & 1u << source) return;
  fail(at, "%s: the source lane is not in the mask", name);
}

SIMT_RAW void collective(const char* name, unsigned mask, void* lane, WarpAction act, bool orders_memory, Location at) {
  Thread& thread = running();
  Warp& warp = block.warps[thread.warp];
  ++statistics.warp_operations;
  if (!(mask >> thread.lane & 1)) fail(at, "%s: the calling lane is not in its own mask", name);
  mask &= warp.exist;
  if (mask & warp.exited) fail(at, "%s: the mask names a lane that has exited", name);
  int g = 0;
  while (g < warp.count && !(warp.waiting[g].mask == mask && same(warp.waiting[g].name, name))) ++g;
  if (g == warp.count) warp.waiting[warp.count++] = {mask, 0, name, at};
  if (!same_line(warp.waiting[g].at, at))
    fail(at, "%s: other lanes of its mask wait at line %u", name, warp.waiting[g].at.line);
  thread.argument = lane;
  thread.operation = name;
  thread.at = at;
  warp.waiting[g].arrived |= 1u << thread.lane;
  const size_t addresses = 64 + static_cast<size_t>(thread.warp) * 96;
  if (orders_memory) release(order_address(addresses + static_cast<size_t>(thread.lane)));
  if (warp.waiting[g].arrived != mask) {
    thread.state = State::at_collective;
    run_next();
  } else {
    warp.waiting[g] = warp.waiting[--warp.count];
    Thread* lanes = &block.threads[thread.warp * 32];
    void* arguments[32];
    for (unsigned i = 0; i < 32; ++i) arguments[i] = mask >> i & 1 ? lanes[i].argument : nullptr;
    if (act != nullptr) act(arguments);
    if (orders_memory) {  // all that came before it, then the gate, then all that comes after it
      void* gate = order_address(addresses + 32 + (warp.serial++ & 63));
      for (unsigned i = 0; i < 32; ++i)
        if (mask >> i & 1) {
          acquire(order_address(addresses + i));
          lanes[i].gate = gate;
        }
      release(gate);
    }
    for (int i = 0; i < 32; ++i)
      if ((mask >> i & 1) && i != thread.lane) {
        lanes[i].state = State::ready;
        push_ready(thread.warp * 32 + i);
      }
  }
  if (orders_memory) acquire(thread.gate);
}

SIMT_RAW void before_atomic(void* address) {
  if (block.running->fenced) release(address);
  block.running->last_atomic = address;
}
SIMT_RAW void fence() {
  block.running->fenced = true;
  if (block.running->last_atomic != nullptr) acquire(block.running->last_atomic);
}

SIMT_RAW void* shared_memory(const void* tag, size_t bytes, size_t alignment) {
  for (int i = 0; i < block.array_count; ++i)
    if (block.arrays[i].tag == tag) return block.arrays[i].data;
  const size_t begin = (block.used + alignment - 1) & ~(alignment - 1),
               end = (begin + bytes + kRedZone + 7) & ~size_t{7};
  size_t total = block.dynamic_bytes + bytes;
  for (int i = 0; i < block.array_count; ++i) total += block.arrays[i].bytes;
  if (total > statistics.shared_memory_peak) statistics.shared_memory_peak = total;
  if (total > config.max_shared_memory || end > kArena || block.array_count == 64)
    fail({}, "%zu bytes of shared memory in a block, at most %zu", total, config.max_shared_memory);
  allow(block.arena + block.used, end - block.used);
  fill_with_nan(block.arena + block.used, end - block.used);
  forbid(block.arena + block.used, end - block.used);
  char* data = block.arena + begin;
  allow(data, bytes);
  block.used = end;
  block.arrays[block.array_count++] = {tag, data, bytes};
  return data;
}
SIMT_RAW void* dynamic_shared_memory() { return block.arena + kArena; }

SIMT_RAW void copy_async(void* shared, const void* global, unsigned bytes, unsigned bytes_read, Location at) {
  if (reinterpret_cast<uintptr_t>(shared) % bytes || reinterpret_cast<uintptr_t>(global) % bytes)
    fail(at, "cp.async: an address is not a multiple of its size");
  const auto* to = static_cast<const char*>(shared);
  if (to < block.arena || to >= block.arena + 2 * kArena) fail(at, "cp.async: the target is not in shared memory");
  const Copy copy{shared, global, bytes, bytes_read, running().copy_group};
  note_write(shared, bytes);  // the bytes may move now as well as at the wait
  note_read(global, bytes_read);
  if (config.copies == CopyAsync::early) return land(copy);
  Copies& copies = running().copies;
  if (copies.count == copies.capacity) {
    copies.capacity = copies.capacity > 0 ? 2 * copies.capacity : 16;
    copies.data = static_cast<Copy*>(std::realloc(copies.data, copies.capacity * sizeof(Copy)));
    if (copies.data == nullptr) std::abort();
  }
  copies.data[copies.count++] = copy;
}
SIMT_RAW void copy_async_commit() { ++running().copy_group; }
SIMT_RAW void copy_async_wait(unsigned groups_left) {
  const Thread& thread = running();
  Copies& copies = running().copies;
  unsigned kept = 0;
  for (unsigned i = 0; i < copies.count; ++i)
    if (copies.data[i].group + groups_left < thread.copy_group)
      land(copies.data[i]);
    else
      copies.data[kept++] = copies.data[i];
  copies.count = kept;
}

}  // namespace simt
