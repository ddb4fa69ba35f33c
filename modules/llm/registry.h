// The families of models that the library knows; one line each in registry.cpp.
#pragma once
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "llm/causal_lm.h"
#include "load_model/weight_mapping.h"

namespace lathe {

struct ConfigFamily;  // config/config_families.h

struct ModelFamily {
  std::string name;                        // "llama"
  std::vector<std::string> architectures;  // class names in config.json
  std::vector<std::string> model_types;    // `model_type` in config.json, `general.architecture` in GGUF
  std::vector<std::string> variants;       // what users know it by: "Llama 2", "Code Llama"
  // What its published checkpoints are made for: "completion", "chat", "embeddings" (the hidden state of the last
  // token).
  std::vector<std::string> capabilities;
  std::unique_ptr<CausalLM> (*make)(const ModelConfig& config);
  WeightMapping (*weight_mapping)(const ModelConfig& config, CheckpointFormat format);
  // How its configurations are read, where the family's own file says it; null: modules/config/families does.
  ConfigFamily (*config)() = nullptr;
};

const std::deque<ModelFamily>& model_families();
// Adds a family to those that the library knows, from then on like any other; its `config` must say how its
// configurations are read. Not while another thread opens a model. Throws Error, and adds nothing, where the two
// disagree about its names, a function is missing, a name is taken, or a rule of its weight mapping fills a parameter
// that no model has.
void register_family(ModelFamily family);
// The targets of a family's weight mapping, of either format, that are no parameter of its model in any variant of its
// configuration (biases, norms of heads, one norm or two, a head of its own, experts), nor of any registered family: a
// mapping may be another family's with rules added. Such a rule does nothing, and where the file's tensor has the
// parameter's own name, loading does not notice.
std::vector<std::string> dead_targets(const ModelFamily& family, const ConfigFamily& config);
// The family of config.architecture (or model_type where that is empty). Throws Error that lists the known ones.
const ModelFamily& family_of(const ModelConfig& config);

}  // namespace lathe
