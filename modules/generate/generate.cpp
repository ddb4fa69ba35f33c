#include "generate/generate.h"

#include <chrono>
#include <memory>

namespace lathe {
namespace {

// Shared with the engine's callbacks, which an exception may leave behind for a moment.
struct Progress {
  std::vector<std::vector<Completion>> completions;
  int64_t unfinished = 0;
  const GenerateCallbacks* callbacks = nullptr;

  void take(size_t index, const GenerationEvent& event) {
    if (event.completion) {
      completions[index][static_cast<size_t>(event.sequence)] = *event.completion;
      --unfinished;
    }
    if (callbacks != nullptr && callbacks->on_event) callbacks->on_event(index, event);
  }
};

void timed_step(Engine& engine, GenerationTiming& timing) {
  const auto begin = std::chrono::steady_clock::now();
  const StepReport report = engine.step();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const bool prefill = report.prompt_tokens > 0;
  (prefill ? timing.prefill_seconds : timing.decode_seconds) += seconds;
  (prefill ? timing.prefill_tokens : timing.decode_tokens) += report.prompt_tokens + report.decoded_tokens;
}

}  // namespace

GenerationResult generate(Engine& engine, const std::vector<Request>& requests, const GenerateCallbacks& callbacks) {
  const auto progress = std::make_shared<Progress>();
  progress->completions.resize(requests.size());
  progress->callbacks = &callbacks;
  std::vector<RequestId> ids;
  const auto cancel_all = [&] {
    for (const RequestId id : ids) engine.cancel(id);
  };
  GenerationResult result;
  try {
    for (size_t i = 0; i < requests.size(); ++i) {
      ids.push_back(engine.submit(requests[i], [progress, i](const GenerationEvent& e) { progress->take(i, e); }));
      progress->completions[i].resize(static_cast<size_t>(requests[i].num_sequences));
      progress->unfinished += requests[i].num_sequences;
    }
    while (progress->unfinished > 0) {
      if (callbacks.interrupted && callbacks.interrupted()) cancel_all();
      if (progress->unfinished > 0) timed_step(engine, result.timing);
    }
  } catch (...) {
    progress->callbacks = nullptr;
    cancel_all();
    throw;
  }
  result.completions = std::move(progress->completions);
  return result;
}

}  // namespace lathe
