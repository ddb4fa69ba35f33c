// Errors, devices and their properties.
#include <simt/runtime_state.h>

#include <algorithm>
#include <utility>

namespace simt {

namespace {

cudaDeviceProp sm_90() {
  cudaDeviceProp p{};
  std::snprintf(p.name, sizeof p.name, "emulated GPU");
  p.totalGlobalMem = 256 << 20;
  p.sharedMemPerBlock = 48 << 10;
  p.sharedMemPerBlockOptin = 227 << 10;
  p.sharedMemPerMultiprocessor = 228 << 10;
  p.major = 9;
  p.multiProcessorCount = 4;
  p.warpSize = 32;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsPerMultiProcessor = 2048;
  p.regsPerBlock = 65536;
  p.l2CacheSize = 1 << 20;
  p.memoryBusWidth = 5120;
  return p;
}

thread_local int device = 0;
thread_local cudaError_t last_error = cudaSuccess;

struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled", "peer access is already enabled"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
};
const ErrorText* text_of(cudaError_t error) {
  const auto* found =
      std::find_if(std::begin(kErrors), std::end(kErrors), [&](const ErrorText& e) { return e.error == error; });
  return found == std::end(kErrors) ? nullptr : found;
}

}  // namespace

RuntimeCounts runtime_counts;
RuntimeConfig runtime_config;

RuntimeConfig::RuntimeConfig() : properties(sm_90()) {}

int current_device() { return device; }
cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}
uint64_t random_below(uint64_t n) {  // splitmix64
  uint64_t z = runtime.random += 0x9E3779B97F4A7C15ull * (2 * config.seed + 1);
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return (z ^ z >> 31) % n;
}

cudaError_t occupancy(int* blocks, int threads, size_t shared) {
  const cudaDeviceProp& p = runtime_config.properties;
  if (threads < 1 || threads > p.maxThreadsPerBlock) return result(cudaErrorInvalidValue);
  const size_t by_shared = p.sharedMemPerMultiprocessor / (shared + 1024);  // 1 KiB a block is the system's
  *blocks =
      static_cast<int>(std::min({size_t{32}, static_cast<size_t>(p.maxThreadsPerMultiProcessor / threads), by_shared}));
  return cudaSuccess;
}

}  // namespace simt

using namespace simt;

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* found = text_of(error);
  return found != nullptr ? found->name : "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* found = text_of(error);
  return found != nullptr ? found->text : "unrecognized error code";
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = runtime_config.driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = runtime_config.devices;
  int needed = 0;
  cudaRuntimeGetVersion(&needed);
  if (runtime_config.driver_version < needed) return result(cudaErrorInsufficientDriver);  // too old, or 0: none
  return runtime_config.devices > 0 ? cudaSuccess : result(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* current) {
  *current = device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int chosen) {
  if (chosen < 0 || chosen >= runtime_config.devices) return result(cudaErrorInvalidDevice);
  device = chosen;
  return cudaSuccess;
}
// As if every kernel had been compiled for the device.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* /*kernel*/) {
  const cudaDeviceProp& properties = runtime_config.properties;
  *attributes = {};
  attributes->binaryVersion = attributes->ptxVersion = 10 * properties.major + properties.minor;
  attributes->maxThreadsPerBlock = properties.maxThreadsPerBlock;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int of) {
  if (of < 0 || of >= runtime_config.devices) return result(cudaErrorInvalidDevice);
  *properties = runtime_config.properties;
  properties->totalGlobalMem = runtime_config.memory;
  properties->pciBusID = of + 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int of) {
  if (of < 0 || of >= runtime_config.devices) return result(cudaErrorInvalidDevice);
  const cudaDeviceProp& p = runtime_config.properties;
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = static_cast<int>(p.sharedMemPerBlock); break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(p.sharedMemPerBlockOptin); break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
