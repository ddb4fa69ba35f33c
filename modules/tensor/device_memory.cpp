#include "tensor/device_memory.h"

#include <algorithm>
#include <cstring>

#include "tensor/storage_forecast.h"
#include "tensor/stream.h"

#if LATHE_CUDA
#include "tensor/cuda.h"
#endif

namespace lathe {
namespace {

[[noreturn]] void without_cuda(Device device) {
  throw Error(fmt::format("tensor: cannot be on {}: built without CUDA", to_string(device)),
              "make build CUDA=1 builds with it");
}

void copy_on_host(const ByteRows& to, const ByteRows& from, size_t row_bytes, size_t rows) {
  if (to.stride == row_bytes && from.stride == row_bytes) {
    std::memcpy(to.data, from.data, row_bytes * rows);
    return;
  }
  for (size_t i = 0; i < rows; ++i)
    std::memcpy(static_cast<char*>(to.data) + i * to.stride, static_cast<const char*>(from.data) + i * from.stride,
                row_bytes);
}

}  // namespace

Storage allocate_storage(Device device, size_t bytes) {
  switch (device.kind) {
    case Device::Kind::cpu: return allocate_storage(bytes);
    case Device::Kind::plan: {
      StorageForecast* forecast = Active<StorageForecast>::current();
      check(forecast != nullptr, "tensor", "the plan device needs an active StorageForecast");
      return forecast->allocate(bytes);
    }
    case Device::Kind::cuda:
#if LATHE_CUDA
      return cuda::allocate(device, bytes);
#endif
      break;
  }
  without_cuda(device);
}

size_t device_block_bytes(size_t bytes) { return std::max<size_t>(256, StoragePool::class_bytes(bytes)); }

size_t free_device_memory(Device device) {
#if LATHE_CUDA
  const cuda::Memory memory = cuda::memory(device);
  return memory.free + memory.kept;
#else
  without_cuda(device);
#endif
}

size_t foreign_device_memory(Device device) {
#if LATHE_CUDA
  if (device.index >= Stream::devices()) return 0;
  const cuda::Memory memory = cuda::memory(device);
  return memory.total - std::min(memory.total, memory.free + memory.used + memory.kept);
#else
  static_cast<void>(device);
  return 0;
#endif
}

void trim_storage(Device device) {
#if LATHE_CUDA
  if (device.kind == Device::Kind::cuda) return cuda::trim(device);
#endif
  if (device.kind == Device::Kind::cpu) StoragePool::trim();
}

void zero_bytes(Device device, void* data, size_t bytes) {
  if (device.kind == Device::Kind::plan || bytes == 0) return;
  if (device.kind == Device::Kind::cpu) {
    std::memset(data, 0, bytes);
    return;
  }
#if LATHE_CUDA
  cuda::zero(device, data, bytes);
#else
  without_cuda(device);
#endif
}

void copy_rows(const ByteRows& to, const ByteRows& from, size_t row_bytes, size_t rows) {
  const auto is = [&](Device::Kind kind) { return to.device.kind == kind || from.device.kind == kind; };
  if (is(Device::Kind::plan) || row_bytes == 0 || rows == 0) return;
  if (!is(Device::Kind::cuda)) return copy_on_host(to, from, row_bytes, rows);
#if LATHE_CUDA
  cuda::copy(to, from, row_bytes, rows);
#else
  without_cuda(to.device.kind == Device::Kind::cuda ? to.device : from.device);
#endif
}

}  // namespace lathe
