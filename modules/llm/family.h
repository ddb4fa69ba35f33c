// Family: everything that is known of a family of models, in one value. Its one file, modules/llm/<name>.cpp, makes it
// in the function <name>_family(); registry.cpp lists these functions.
#pragma once
#include <memory>

#include "config/family_config.h"
#include "llm/causal_lm.h"
#include "load_model/weight_mapping.h"

namespace lathe {

// What readers of configurations need of it is the base.
struct Family : FamilyConfig {
  std::unique_ptr<CausalLM> (*make)(const ModelConfig& config) = nullptr;
  WeightMapping (*weight_mapping)(const ModelConfig& config, CheckpointFormat format) = nullptr;
};

// A family's `make` where its model is one class.
template <class Model>
std::unique_ptr<CausalLM> make_model(const ModelConfig& config) {
  return std::make_unique<Model>(config);
}

}  // namespace lathe
