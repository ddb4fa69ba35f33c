// A configuration to be looked at.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "config/model_sizes.h"

namespace lathe {

const char* rope_scaling_name(RopeScaling scaling);  // in config.json and YAML
// Every field that differs from ModelConfig's default, by name, and the few that matter to every model; context_limit.
nlohmann::ordered_json config_values(const ModelConfig& config);
// The keys of its config.json that nobody reads, each with the known name that it may be a misspelling of, or null.
nlohmann::ordered_json unknown_keys(const ModelConfig& config, const FamilyConfig& family);

}  // namespace lathe
