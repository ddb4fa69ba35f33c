// Streams, memory and copies of CUDA devices. Empty in a build without CUDA but for the error that says so.
#include "tensor/cuda.h"

#include <atomic>

#include "tensor/stream.h"

#if LATHE_CUDA
#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>
#endif

namespace lathe {

template <>
const Stream*& Active<const Stream>::slot() {
  thread_local const Stream* current = nullptr;
  return current;
}

namespace {

std::atomic<int64_t> recorded = 0, replayed = 0;

}  // namespace

Graph::Counts Graph::counts() { return {recorded, replayed}; }

#if !LATHE_CUDA

Stream::Stream(Device device) : device_(device), stream_(current(device)) {}
Stream::~Stream() {}  // of none: the constructor throws
CUstream_st* Stream::current(Device device) {
  throw Error(fmt::format("cuda: no stream on {}: built without CUDA", to_string(device)),
              "make build CUDA=1 builds with it");
}
bool Stream::built_in() { return false; }
int Stream::devices() { return 0; }
std::string Stream::device_name(Device device) { return to_string(device); }
std::string Stream::why_not(Device) { return "this program is built without CUDA"; }
void Stream::synchronise(Device) {}
void Stream::check_launch(const char*) {}

Graph::Graph(const Stream& recording, const std::function<void()>&) : device_(recording.device()) {}
Graph::~Graph() {}
void Graph::replay() const {}

#else

namespace {

void check_call(cudaError_t result, const char* call) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not report this one again
  throw Error(fmt::format("cuda: {} failed: {}", call, cudaGetErrorString(result)));
}

// The free blocks of one device, and its first stream. Never destroyed: tensors in static variables may outlive every
// other object, and the driver may be gone by then.
struct DeviceState {
  std::mutex mutex;
  std::map<std::pair<cudaStream_t, size_t>, std::vector<void*>> free;  // by the stream that uses them, and bytes
  // Those that graphs were recorded on: their free blocks are what the graphs write to, and nobody else's.
  std::set<cudaStream_t> recording;
  cuda::Memory memory;  // what is kept does not count the blocks of recording streams
  cudaStream_t stream = nullptr;
};

DeviceState& state_of(Device device) {
  static std::mutex mutex;
  static auto* states = new std::vector<std::unique_ptr<DeviceState>>;
  const std::lock_guard lock(mutex);
  if (states->empty()) {
    const int count = Stream::devices();
    if (count == 0)
      throw Error(fmt::format("cuda: no device: {}", Stream::why_not(device)), "--device cpu runs without one");
    states->resize(static_cast<size_t>(count));
  }
  check(device.index >= 0 && device.index < std::ssize(*states), "cuda", "no device {}: the machine has {}",
        to_string(device), states->size());
  auto& state = (*states)[static_cast<size_t>(device.index)];
  if (!state) {
    auto made = std::make_unique<DeviceState>();
    int before = 0;
    check_call(cudaGetDevice(&before), "cudaGetDevice");
    check_call(cudaSetDevice(device.index), "cudaSetDevice");
    check_call(cudaStreamCreateWithFlags(&made->stream, cudaStreamNonBlocking), "cudaStreamCreate");
    check_call(cudaSetDevice(before), "cudaSetDevice");
    state = std::move(made);
  }
  return *state;
}

// With the device made the thread's current one.
DeviceState& use(Device device) {
  DeviceState& state = state_of(device);
  thread_local int current = -1;
  if (current != device.index) check_call(cudaSetDevice(device.index), "cudaSetDevice");
  current = device.index;
  return state;
}

// What is kept for `stream`, or for all streams but the recording ones where it is null.
void give_back_kept(DeviceState& state, cudaStream_t stream = nullptr) {
  for (auto& [key, blocks] : state.free) {
    const bool is_recording = state.recording.contains(key.first);
    if (stream != nullptr ? key.first != stream : is_recording) continue;
    while (!blocks.empty() && cudaFree(blocks.back()) == cudaSuccess) {
      blocks.pop_back();
      if (!is_recording) state.memory.kept -= key.second;
    }
  }
  cudaGetLastError();
}

// A block of `bytes`; where none is kept, of the next larger size that one is kept of (largest_in_place_of), but not on
// a recording stream. `bytes` becomes the block's.
void* take(Device device, cudaStream_t stream, size_t& bytes) {
  DeviceState& state = use(device);
  const std::lock_guard lock(state.mutex);
  const bool recording = state.recording.contains(stream);
  void* block = nullptr;
  const auto end = state.free.upper_bound({stream, recording ? bytes : largest_in_place_of(bytes)});
  const auto kept =
      std::find_if(state.free.lower_bound({stream, bytes}), end, [](const auto& size) { return !size.second.empty(); });
  if (kept != end) {
    bytes = kept->first.second;
    block = kept->second.back();
    kept->second.pop_back();
    if (!recording) state.memory.kept -= bytes;
  } else {
    cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
    check_call(cudaStreamIsCapturing(stream, &capturing), "cudaStreamIsCapturing");
    check(capturing == cudaStreamCaptureStatusNone, "cuda",
          "what is recorded asks for {} bytes more than what ran before", bytes);
    ++state.memory.allocations;
    if (cudaMalloc(&block, bytes) != cudaSuccess) {
      give_back_kept(state);
      cudaGetLastError();
      if (cudaMalloc(&block, bytes) != cudaSuccess) {
        cudaGetLastError();
        size_t unused = 0, total = 0;
        cudaMemGetInfo(&unused, &total);
        throw Error(fmt::format("cuda: {} has no {} bytes more: {} of its {} are free, tensors hold {}",
                                to_string(device), bytes, unused, total, state.memory.used),
                    "a smaller cache (--kv-memory), batch or context needs less");
      }
    }
  }
  state.memory.used += bytes;
  return block;
}

void give(Device device, cudaStream_t stream, void* block, size_t bytes) {
  DeviceState& state = state_of(device);
  const std::lock_guard lock(state.mutex);
  state.memory.used -= bytes;
  if (!state.recording.contains(stream)) state.memory.kept += bytes;
  state.free[{stream, bytes}].push_back(block);
}

cudaMemcpyKind direction(Device to, Device from) {
  const bool to_device = to.kind == Device::Kind::cuda, from_device = from.kind == Device::Kind::cuda;
  if (to_device && from_device) return cudaMemcpyDeviceToDevice;
  return to_device ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
}

}  // namespace

namespace cuda {

Storage allocate(Device device, size_t bytes) {
  size_t block = device_block_bytes(bytes);
  const cudaStream_t stream = Stream::current(device);
  void* data = take(device, stream, block);
  const auto give_back = [=](const void* p) { give(device, stream, const_cast<void*>(p), block); };
  return {std::shared_ptr<const void>(data, give_back), data};
}

void zero(Device device, void* data, size_t bytes) {
  check_call(cudaMemsetAsync(data, 0, bytes, Stream::current(device)), "cudaMemset");
}

void copy(const ByteRows& to, const ByteRows& from, size_t row_bytes, size_t rows) {
  const cudaMemcpyKind kind = direction(to.device, from.device);
  const Device device = to.device.kind == Device::Kind::cuda ? to.device : from.device;
  if (kind == cudaMemcpyDeviceToDevice && to.device != from.device) Stream::synchronise(from.device);
  const cudaStream_t stream = Stream::current(device);
  if (to.stride == row_bytes && from.stride == row_bytes)
    check_call(cudaMemcpyAsync(to.data, from.data, row_bytes * rows, kind, stream), "cudaMemcpy");
  else
    check_call(cudaMemcpy2DAsync(to.data, to.stride, from.data, from.stride, row_bytes, rows, kind, stream),
               "cudaMemcpy2D");
  // Between two devices: the source's stream may give its block away as soon as this returns.
  if (kind == cudaMemcpyDeviceToHost || (kind == cudaMemcpyDeviceToDevice && to.device != from.device))
    Stream::synchronise(device);
}

Memory memory(Device device) {
  DeviceState& state = use(device);
  const std::lock_guard lock(state.mutex);
  Memory memory = state.memory;
  check_call(cudaMemGetInfo(&memory.free, &memory.total), "cudaMemGetInfo");
  return memory;
}

void trim(Device device) {
  DeviceState& state = use(device);
  const std::lock_guard lock(state.mutex);
  give_back_kept(state);
}

}  // namespace cuda

Stream::Stream(Device device) : device_(device) {
  use(device);
  check_call(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
}
Stream::~Stream() {
  cudaStreamSynchronize(stream_);
  {
    DeviceState& state = state_of(device_);
    const std::lock_guard lock(state.mutex);
    give_back_kept(state, stream_);  // its handle may be given to another stream
    state.recording.erase(stream_);
  }
  cudaStreamDestroy(stream_);
}
CUstream_st* Stream::current(Device device) {
  DeviceState& state = use(device);
  const Stream* active = Scope::current();
  return active != nullptr && active->device_ == device ? active->stream_ : state.stream;
}
bool Stream::built_in() { return true; }
int Stream::devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  cudaGetLastError();
  return count;
}
std::string Stream::device_name(Device device) {
  cudaDeviceProp properties{};
  check_call(cudaGetDeviceProperties(&properties, device.index), "cudaGetDeviceProperties");
  return properties.name;
}
std::string Stream::why_not(Device device) {
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (result == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    const auto version = [](int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); };
    return driver == 0
               ? "the machine has no CUDA driver"
               : fmt::format("the driver is for CUDA {}, this program needs {}", version(driver), version(runtime));
  }
  if (result != cudaSuccess) return cudaGetErrorString(result);
  return fmt::format("no device {}: the machine has {}", device.index, count);
}
void Stream::synchronise(Device device) {
  if (device.kind == Device::Kind::cuda) check_call(cudaStreamSynchronize(current(device)), "cudaStreamSynchronize");
}
Graph::Graph(const Stream& recording, const std::function<void()>& work) : device_(recording.device()) {
  Stream::synchronise(device_);  // what the thread's stream has written so far is there for the recording's
  {
    DeviceState& state = use(device_);
    const std::lock_guard lock(state.mutex);
    state.recording.insert(recording.stream_);
  }
  const Stream::Scope scope(&recording);
  work();
  Stream::synchronise(device_);
  cudaGraph_t graph = nullptr;
  check_call(cudaStreamBeginCapture(recording.stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  const auto abandon = [&] {
    cudaStreamEndCapture(recording.stream_, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
  };
  try {
    work();
  } catch (const Error& error) {
    abandon();
    throw NotRecordable(error.what(), error.hint());
  } catch (...) {  // an interruption goes on as it is
    abandon();
    throw;
  }
  check_call(cudaStreamEndCapture(recording.stream_, &graph), "cudaStreamEndCapture");
  const cudaError_t result = cudaGraphInstantiate(&executable_, graph, 0);
  cudaGraphDestroy(graph);
  check_call(result, "cudaGraphInstantiate");
  ++recorded;
}
Graph::~Graph() {
  cudaStreamSynchronize(stream_);
  cudaGraphExecDestroy(executable_);
}
void Graph::replay() const {
  stream_ = Stream::current(device_);
  check_call(cudaGraphLaunch(executable_, stream_), "cudaGraphLaunch");
  ++replayed;
}

void Stream::check_launch(const char* operation) {
  const cudaError_t result = cudaGetLastError();
  if (result != cudaSuccess)
    throw Error(fmt::format("{}: a kernel was not launched: {}", operation, cudaGetErrorString(result)));
}

#endif

}  // namespace lathe
