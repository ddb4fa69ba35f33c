// The families of models that the library knows; one line each in registry.cpp.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "llm/causal_lm.h"
#include "load_model/weight_mapping.h"

namespace lathe {

struct ConfigFamily;

struct ModelFamily {
  std::string name;                        // "llama"
  std::vector<std::string> architectures;  // class names in config.json
  std::vector<std::string> model_types;    // `model_type` in config.json, `general.architecture` in GGUF
  std::vector<std::string> variants;       // what users know it by: "Llama 2", "Code Llama"
  std::vector<std::string> capabilities;   // "completion", "chat"
  std::unique_ptr<CausalLM> (*make)(const ModelConfig& config);
  WeightMapping (*weight_mapping)(const ModelConfig& config, CheckpointFormat format);
  // How its configurations are read, where the family's own file says it; null: modules/config/families does.
  ConfigFamily (*config)() = nullptr;
};

const std::vector<ModelFamily>& model_families();
// The family of config.architecture (or model_type where that is empty). Throws Error that lists the known ones.
const ModelFamily& family_of(const ModelConfig& config);

}  // namespace lathe
