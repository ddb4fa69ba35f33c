// Memory of devices, pinned memory, copies.
#include <simt/runtime_state.h>
#include <sys/mman.h>

#include <cstdlib>

namespace simt {
namespace {

constexpr size_t kReserved = 1 << 30;  // addresses of a device
constexpr size_t kAlignment = 256, kBehind = 256;

struct DeviceMemory {
  char* base = nullptr;
  size_t highest = 0, next = 0, in_use = 0;
};
DeviceMemory memories[8];
int host_accesses = 0;

void protect(int protection) {
  for (const DeviceMemory& memory : memories)
    if (memory.base != nullptr) mprotect(memory.base, kReserved, protection);
}

size_t padded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment + kBehind; }

// The first gap of this size behind `from`; allocations of a device lie in the order of their addresses.
char* find_gap(const DeviceMemory& memory, int device, size_t from, size_t bytes) {
  char* at = memory.base + from;
  for (auto i = runtime.allocations.lower_bound(at); i != runtime.allocations.end(); ++i) {
    if (i->second.device != device) break;
    if (i->first - at >= static_cast<ptrdiff_t>(bytes)) return at;
    at = const_cast<char*>(i->first) + padded(i->second.bytes);
  }
  return at + bytes <= memory.base + kReserved ? at : nullptr;
}

cudaError_t allocate(void** pointer, size_t bytes, int device) {
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  DeviceMemory& memory = memories[device];
  if (memory.in_use + bytes > runtime_config.memory) return cudaErrorMemoryAllocation;
  if (memory.base == nullptr) {
    void* reserved = mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) throw std::bad_alloc();
    memory.base = static_cast<char*>(reserved);
  }
  // Behind the last allocation, so that freed memory stays unused for long.
  char* at = find_gap(memory, device, memory.next, padded(bytes));
  if (at == nullptr) at = find_gap(memory, device, 0, padded(bytes));
  if (at == nullptr) return cudaErrorMemoryAllocation;
  const HostAccess access;
  allow(at, padded(bytes));
  memset(at, 0xff, padded(bytes));
  forbid(at + bytes, padded(bytes) - bytes);
  memory.next = static_cast<size_t>(at - memory.base) + padded(bytes);
  memory.highest = std::max(memory.highest, memory.next);
  memory.in_use += bytes;
  runtime.allocations[at] = {bytes, device};
  ++runtime_counts.allocations;
  *pointer = at;
  return cudaSuccess;
}

bool red_zone_is_intact(const char* at, size_t bytes) {
  for (const char* p = at + bytes; p < at + padded(bytes); ++p)
    if (*p != static_cast<char>(0xff)) return false;
  return true;
}

std::string describe(const Allocation& allocation) {
  return std::to_string(allocation.bytes) + " bytes of " +
         (allocation.device < 0 ? "pinned memory" : "device " + std::to_string(allocation.device));
}

void release_memory(char* at) {
  const Allocation allocation = runtime.allocations.at(at);
  const HostAccess access;
  allow(at, padded(allocation.bytes));
  const bool intact = red_zone_is_intact(at, allocation.bytes);
  memset(at, 0xff, padded(allocation.bytes));
  forbid(at, padded(allocation.bytes));
  runtime.allocations.erase(at);
  memories[allocation.device].in_use -= allocation.bytes;
  if (!intact) throw Error("something wrote behind the end of an allocation of " + describe(allocation));
}

bool is_device(const void* address) {
  for (const DeviceMemory& memory : memories)
    if (memory.base != nullptr && address >= memory.base && address < memory.base + kReserved) return true;
  return false;
}

void check_range(const char* call, const void* address, size_t bytes) {
  if (bytes == 0 || !is_device(address) || find_allocation(address, bytes) != nullptr) return;
  const Allocation* around = find_allocation(address);
  const std::string what = around != nullptr ? "go beyond an allocation of " + describe(*around)
                                             : "of a device were never allocated, or freed";
  throw Error(std::string(call) + ": " + std::to_string(bytes) + " bytes " + what);
}

void copy(void* to, const void* from, size_t bytes) {
  check_range("cudaMemcpy", to, bytes);
  check_range("cudaMemcpy", from, bytes);
  memmove(to, from, bytes);
}

bool fits_kind(const void* to, const void* from, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return kind == cudaMemcpyDefault || (is_device(to) == to_device && is_device(from) == from_device);
}

}  // namespace

HostAccess::HostAccess() {
  const Lock lock(runtime.mutex);
  if (host_accesses++ == 0) protect(PROT_READ | PROT_WRITE);
}
HostAccess::~HostAccess() {
  const Lock lock(runtime.mutex);
  if (--host_accesses == 0) protect(PROT_NONE);
}

const Allocation* find_allocation(const void* address, size_t bytes) {
  const auto* at = static_cast<const char*>(address);
  auto found = runtime.allocations.upper_bound(at);
  if (found == runtime.allocations.begin()) return nullptr;
  --found;
  return at + bytes <= found->first + found->second.bytes ? &found->second : nullptr;
}

void check_pointers(const Launch& launch, int device) {
  for (unsigned i = 0; i < launch.pointer_count; ++i) {
    const void* pointer = launch.pointers[i];
    if (pointer == nullptr) continue;
    const std::string argument = std::string(launch.name) + ": argument " + std::to_string(i + 1);
    // One past the end of an allocation is where an empty rest of it begins.
    const Allocation* found = find_allocation(pointer, 0);
    if (found == nullptr && is_device(pointer)) throw Error(argument + " points to memory that is not allocated");
    if (!runtime_config.check_arguments) continue;
    if (found == nullptr) throw Error(argument + " points to memory of the host");
    if (found->device >= 0 && found->device != device) throw Error(argument + " points to memory of another device");
  }
}

size_t memory_in_use(int device) { return memories[device].in_use; }

std::string leaks() {
  const Lock lock(runtime.mutex);
  std::string lines;
  for (const auto& entry : runtime.allocations) lines += describe(entry.second) + "\n";
  return lines;
}

void reset_memory() {
  std::string broken;
  while (!runtime.allocations.empty()) {
    char* at = const_cast<char*>(runtime.allocations.begin()->first);
    if (runtime.allocations.begin()->second.device < 0) {
      cudaFreeHost(at);
      continue;
    }
    try {
      release_memory(at);
    } catch (const Error& error) {
      broken = error.what();
    }
  }
  for (DeviceMemory& memory : memories) {
    if (memory.base == nullptr) continue;
    allow(memory.base, memory.highest);
    munmap(memory.base, kReserved);
    memory = {};
  }
  if (!broken.empty()) throw Error(broken);
}

}  // namespace simt

using namespace simt;

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = runtime_config.memory;
  *free = *total - memory_in_use(current_device());
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  const Lock lock(runtime.mutex);
  if (breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  return result(allocate(pointer, bytes, current_device()));
}
cudaError_t cudaFree(void* pointer) {
  const Lock lock(runtime.mutex);
  if (pointer == nullptr) return cudaSuccess;
  if (breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  const auto found = runtime.allocations.find(static_cast<char*>(pointer));
  if (found == runtime.allocations.end() || found->second.device < 0) return result(cudaErrorInvalidValue);
  drain_device(found->second.device);
  release_memory(static_cast<char*>(pointer));
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  if (in_capture(stream) && breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  return result(allocate(pointer, bytes, stream != nullptr ? stream->device : current_device()));
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  if (pointer == nullptr) return cudaSuccess;
  if (in_capture(stream) && breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  const auto found = runtime.allocations.find(static_cast<char*>(pointer));
  if (found == runtime.allocations.end() || found->second.device < 0) return result(cudaErrorInvalidValue);
  return enqueue(stream, [=] { release_memory(static_cast<char*>(pointer)); });
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  const Lock lock(runtime.mutex);
  if (breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  *pointer = std::malloc(bytes);
  if (*pointer == nullptr) return result(cudaErrorMemoryAllocation);
  memset(*pointer, 0xff, bytes);
  runtime.allocations[static_cast<char*>(*pointer)] = {bytes, -1};
  ++runtime_counts.host_allocations;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  const Lock lock(runtime.mutex);
  if (pointer == nullptr) return cudaSuccess;
  const auto found = runtime.allocations.find(static_cast<char*>(pointer));
  if (found == runtime.allocations.end() || found->second.device >= 0) return result(cudaErrorInvalidValue);
  runtime.allocations.erase(found);
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  if (!fits_kind(to, from, kind)) return result(cudaErrorInvalidValue);
  ++runtime_counts.copies;
  const bool pageable_from = find_allocation(from) == nullptr && !is_device(from);
  const bool pageable_to = find_allocation(to) == nullptr && !is_device(to);
  if (pageable_from && !in_capture(stream)) {
    const auto* bytes_of = static_cast<const char*>(from);
    const auto taken = std::make_shared<std::vector<char>>(bytes_of, bytes_of + bytes);
    return enqueue(stream, [=] { copy(to, taken->data(), bytes); });
  }
  const cudaError_t error = enqueue(stream, [=] { copy(to, from, bytes); });
  if (error == cudaSuccess && pageable_to && !in_capture(stream)) drain(stream);
  return error;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
// Row by row: with pageable memory each waits as cudaMemcpyAsync does.
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  if (to_pitch < width || from_pitch < width) return result(cudaErrorInvalidValue);
  for (size_t row = 0; row < height; ++row) {
    const cudaError_t error = cudaMemcpyAsync(static_cast<char*>(to) + row * to_pitch,
                                              static_cast<const char*>(from) + row * from_pitch, width, kind, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  return enqueue(stream, [=] {
    check_range("cudaMemset", to, bytes);
    memset(to, byte, bytes);
  });
}
cudaError_t cudaMemset(void* to, int byte, size_t bytes) { return cudaMemsetAsync(to, byte, bytes, nullptr); }
