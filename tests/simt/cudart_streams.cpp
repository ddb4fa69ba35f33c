// Streams, events, graphs: when work is done.
#include <simt/runtime_state.h>

#include <algorithm>

namespace simt {

Runtime runtime;

namespace {

bool waits(const Task& task) { return task.until != nullptr && task.until->done < task.times; }

// Does one piece of work of a random stream; false: none can be done.
bool run_one() {
  std::vector<CUstream_st*> able;
  for (CUstream_st* stream : runtime.streams)
    if (!stream->queue.empty() && !waits(stream->queue.front())) able.push_back(stream);
  if (able.empty()) return false;
  CUstream_st* stream = able[random_below(able.size())];
  const Task task = std::move(stream->queue.front());
  stream->queue.pop_front();
  const HostAccess access;
  task.run();
  return true;
}

template <class Done>
void run_until(Done done) {
  while (!done())
    if (!run_one()) throw Error("deadlock: every stream waits for an event that is never recorded");
}

void run_graph(const std::vector<Node>& nodes) {
  std::vector<size_t> left(nodes.size());
  std::vector<size_t> able;
  for (size_t i = 0; i < nodes.size(); ++i) {
    left[i] = nodes[i].after.size();
    if (left[i] == 0) able.push_back(i);
  }
  while (!able.empty()) {
    std::swap(able[random_below(able.size())], able.back());
    const size_t node = able.back();
    able.pop_back();
    nodes[node].run();
    for (size_t i = node + 1; i < nodes.size(); ++i)  // nodes come after those that they depend on
      for (const size_t before : nodes[i].after)
        if (before == node && --left[i] == 0) able.push_back(i);
  }
}

bool known(cudaStream_t stream) { return stream == nullptr || runtime.streams.count(stream) > 0; }

void join(std::vector<size_t>& frontier, const std::vector<size_t>& more) {
  for (const size_t node : more)
    if (std::find(frontier.begin(), frontier.end(), node) == frontier.end()) frontier.push_back(node);
}

// Whether `node` comes before one of the nodes of `frontier`, or is one.
bool is_before(const CUgraph_st& graph, size_t node, const std::vector<size_t>& frontier) {
  return std::any_of(frontier.begin(), frontier.end(),
                     [&](size_t f) { return f == node || (f > node && is_before(graph, node, graph.nodes[f].after)); });
}

}  // namespace

cudaError_t enqueue(cudaStream_t stream, Work work) {
  const Lock lock(runtime.mutex);
  if (!known(stream)) return result(cudaErrorInvalidResourceHandle);
  if (stream == nullptr) {
    for (CUstream_st* other : runtime.streams)
      if (other->capture != nullptr && other->waits_for_null_stream) {
        breaks_capture();
        return result(cudaErrorStreamCaptureImplicit);
      }
    drain(nullptr);
    const HostAccess access;
    work();
    return cudaSuccess;
  }
  if (stream->capture != nullptr) {
    if (stream->capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
    stream->capture->nodes.push_back({std::move(work), stream->frontier});
    stream->frontier = {stream->capture->nodes.size() - 1};
    return cudaSuccess;
  }
  stream->queue.push_back({std::move(work), nullptr, 0});
  if (random_below(4) == 0) run_one();
  return cudaSuccess;
}

void drain(cudaStream_t stream) {
  if (stream != nullptr) return run_until([&] { return stream->queue.empty(); });
  for (CUstream_st* other : runtime.streams)
    if (other->waits_for_null_stream && other->device == current_device()) drain(other);
}

void drain_device(int device) {
  for (CUstream_st* stream : runtime.streams)
    if (stream->device == device) drain(stream);
}

bool in_capture(cudaStream_t stream) { return stream != nullptr && stream->capture != nullptr; }

bool breaks_capture() {
  bool any = false;
  for (CUstream_st* stream : runtime.streams)
    if (stream->capture != nullptr) any = stream->capture->invalid = true;
  return any;
}

void submit(cudaStream_t stream, Launch* launch) {
  const Lock lock(runtime.mutex);
  const std::shared_ptr<Launch> owned(launch);
  check_geometry(*owned);
  ++runtime_counts.launches;
  const int device = stream != nullptr ? stream->device : current_device();
  if (device != current_device()) throw Error(std::string(launch->name) + ": its stream is another device's");
  const cudaError_t error = enqueue(stream, [=] {
    check_pointers(*owned, device);
    run(*owned);
  });
  if (error != cudaSuccess) throw Error(std::string(launch->name) + ": " + cudaGetErrorString(error));
}

void reset_runtime() {
  const Lock lock(runtime.mutex);
  while (!runtime.streams.empty()) {
    CUstream_st* stream = *runtime.streams.begin();
    stream->queue.clear();
    stream->capture = nullptr;
    cudaStreamDestroy(stream);
  }
  for (CUevent_st* event : runtime.events) delete event;
  for (CUgraph_st* graph : runtime.graphs) delete graph;
  for (CUgraphExec_st* executable : runtime.executables) delete executable;
  runtime.events.clear();
  runtime.graphs.clear();
  runtime.executables.clear();
  runtime.random = 0;
  runtime_counts = {};
  runtime_config = {};
  cudaGetLastError();
  cudaSetDevice(0);
  reset_memory();
}

}  // namespace simt

using namespace simt;

// ---- streams ----
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Lock lock(runtime.mutex);
  *stream = new CUstream_st;
  (*stream)->device = current_device();
  (*stream)->waits_for_null_stream = flags != cudaStreamNonBlocking;
  runtime.streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  if (stream == nullptr || !known(stream)) return result(cudaErrorInvalidResourceHandle);
  drain(stream);
  runtime.streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  if (!known(stream)) return result(cudaErrorInvalidResourceHandle);
  if (in_capture(stream) && breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  ++runtime_counts.waits;
  drain(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  if (!known(stream)) return result(cudaErrorInvalidResourceHandle);
  if (in_capture(stream) && breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  run_one();
  if (stream != nullptr && !stream->queue.empty()) return cudaErrorNotReady;
  drain(stream);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(runtime.mutex);
  if (breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  ++runtime_counts.waits;
  drain_device(current_device());
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return enqueue(stream, [=] { function(data); });
}

// ---- events ----
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const Lock lock(runtime.mutex);
  *event = new CUevent_st;
  (*event)->device = current_device();
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  runtime.events.insert(*event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(runtime.mutex);
  if (runtime.events.erase(event) == 0) return result(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  if (runtime.events.count(event) == 0 || !known(stream)) return result(cudaErrorInvalidResourceHandle);
  event->capture = nullptr;
  if (in_capture(stream)) {
    event->capture = stream->capture;
    event->frontier = stream->frontier;
    return cudaSuccess;
  }
  const uint64_t times = ++event->state->recorded;
  return enqueue(stream, [state = event->state, times] {
    state->done = times;
    state->at = std::chrono::steady_clock::now();
  });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(runtime.mutex);
  if (runtime.events.count(event) == 0 || !known(stream)) return result(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) {  // the stream takes part in the capture from here on
    if (stream == nullptr || (stream->capture != nullptr && stream->capture != event->capture)) {
      breaks_capture();
      return result(cudaErrorStreamCaptureImplicit);
    }
    stream->capture = event->capture;
    join(stream->frontier, event->frontier);
    return cudaSuccess;
  }
  if (in_capture(stream) && breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  if (stream == nullptr) return cudaEventSynchronize(event);
  stream->queue.push_back({[] {}, event->state, event->state->recorded});
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(runtime.mutex);
  if (runtime.events.count(event) == 0) return result(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr && breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  run_one();
  if (event->state->done < event->state->recorded) return cudaErrorNotReady;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(runtime.mutex);
  if (runtime.events.count(event) == 0) return result(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr && breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
  ++runtime_counts.waits;
  const std::shared_ptr<EventState> state = event->state;
  run_until([&, times = state->recorded] { return state->done >= times; });
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const Lock lock(runtime.mutex);
  for (const CUevent_st* event : {begin, end}) {
    if (!event->timed || event->state->recorded == 0) return result(cudaErrorInvalidResourceHandle);
    if (event->state->done < event->state->recorded) return result(cudaErrorNotReady);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(end->state->at - begin->state->at).count();
  return cudaSuccess;
}

// ---- graphs ----
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Lock lock(runtime.mutex);
  if (stream == nullptr || stream->capture != nullptr) return result(cudaErrorStreamCaptureUnsupported);
  stream->capture = new CUgraph_st;
  stream->capture->origin = stream;
  stream->frontier.clear();
  runtime.graphs.insert(stream->capture);
  ++runtime_counts.captures;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(runtime.mutex);
  *graph = nullptr;
  if (!in_capture(stream)) return result(cudaErrorInvalidValue);
  CUgraph_st* captured = stream->capture;
  if (captured->origin != stream) return result(cudaErrorStreamCaptureUnmatched);
  bool joined = true;
  for (CUstream_st* other : runtime.streams) {
    if (other->capture != captured) continue;
    for (const size_t node : other->frontier) joined = joined && is_before(*captured, node, stream->frontier);
    other->capture = nullptr;
  }
  for (CUevent_st* event : runtime.events)
    if (event->capture == captured) event->capture = nullptr;
  captured->origin = nullptr;
  if (captured->invalid || !joined) {
    const cudaError_t error = captured->invalid ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined;
    cudaGraphDestroy(captured);
    return result(error);
  }
  *graph = captured;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(runtime.mutex);
  *status = !in_capture(stream)        ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const Lock lock(runtime.mutex);
  if (nodes != nullptr) return result(cudaErrorInvalidValue);  // nodes have no handles here
  *count = graph->nodes.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  const Lock lock(runtime.mutex);
  if (runtime.graphs.count(graph) == 0) return result(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->nodes};
  runtime.executables.insert(*executable);
  ++runtime_counts.instantiations;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Lock lock(runtime.mutex);
  if (runtime.executables.count(executable) == 0) return result(cudaErrorInvalidValue);
  ++runtime_counts.replays;
  return enqueue(stream, [nodes = executable->nodes] { run_graph(nodes); });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Lock lock(runtime.mutex);
  if (runtime.executables.erase(executable) == 0) return result(cudaErrorInvalidValue);
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Lock lock(runtime.mutex);
  if (runtime.graphs.erase(graph) == 0) return result(cudaErrorInvalidValue);
  delete graph;
  return cudaSuccess;
}
