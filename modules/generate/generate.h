// Requests in, completions out: the engine run to the end.
#pragma once
#include <functional>
#include <vector>

#include "generate/engine.h"

namespace lathe {

// Wall-clock time of the engine's steps. A step that computes any part of a prompt counts as prefill.
struct GenerationTiming {
  double prefill_seconds = 0.0, decode_seconds = 0.0;
  int64_t prefill_tokens = 0;  // computed in prefill steps
  int64_t decode_tokens = 0;   // computed in the others
  // 0 where there was nothing to measure.
  double prefill_tokens_per_second() const { return prefill_seconds > 0.0 ? prefill_tokens / prefill_seconds : 0.0; }
  double decode_tokens_per_second() const { return decode_seconds > 0.0 ? decode_tokens / decode_seconds : 0.0; }
};

struct GenerationResult {
  std::vector<std::vector<Completion>> completions;  // by request, then by sequence
  GenerationTiming timing;
};

struct GenerateCallbacks {
  // `index` is the request's place in `requests`.
  std::function<void(size_t index, const GenerationEvent& event)> on_event;
  // Asked before each step; true cancels all that is left (Ctrl-C).
  std::function<bool()> interrupted;
};

// Submits all requests and steps until they are done. Throws what submit throws, with nothing left in the engine.
GenerationResult generate(Engine& engine, const std::vector<Request>& requests,
                          const GenerateCallbacks& callbacks = {});

}  // namespace lathe
