// What a model's configuration amounts to, as JSON: for `lathe inspect`.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "llm/load.h"

namespace lathe {

// The number of parameters, in all and by part: tables, attention, feed-forward nets, norms, head.
nlohmann::ordered_json parameters_json(CausalLM& model);
// Bytes that running takes besides the weights.
nlohmann::ordered_json memory_json(const ModelSizes& sizes);
// Bytes that running one sequence of 512 tokens takes in all, with the weights as they are stored and in smaller
// formats. `opened`: by open_model or describe_config.
nlohmann::ordered_json requirements_json(const LoadedModel& opened);

}  // namespace lathe
