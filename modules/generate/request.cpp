#include "generate/request.h"

#include <set>

#include "tensor/errors.h"

namespace lathe {

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
    case FinishReason::error: return "error";
  }
  return "unknown";
}

std::vector<int32_t> stop_tokens(const LoadedModel& loaded, const Tokenizer* tokenizer) {
  std::set<int32_t> ids;
  for (const auto* named : {&loaded.checkpoint.generation.eos_token_ids, &loaded.model->sizes.eos_token_ids}) {
    for (const int64_t id : *named) {
      check(id == static_cast<int32_t>(id), "config", "eos_token_id is {}, expected an integer of 32 bits", id);
      ids.insert(static_cast<int32_t>(id));
    }
  }
  if (tokenizer != nullptr)
    for (const int32_t id : tokenizer->end_of_turn_tokens()) ids.insert(id);
  return {ids.begin(), ids.end()};
}

SamplingParameters sampling_defaults(const GenerationDefaults& defaults) {
  SamplingParameters p;
  if (defaults.do_sample.value_or(defaults.temperature.has_value())) {
    p.temperature = defaults.temperature.value_or(1.0);
    p.top_k = defaults.top_k.value_or(p.top_k);
    p.top_p = defaults.top_p.value_or(p.top_p);
    p.min_p = defaults.min_p.value_or(p.min_p);
  }
  p.repetition_penalty = defaults.repetition_penalty.value_or(p.repetition_penalty);
  return p;
}

}  // namespace lathe
