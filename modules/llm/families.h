// What each family file provides to the registry.
#pragma once
#include <memory>

#include "llm/causal_lm.h"
#include "load_model/weight_mapping.h"

namespace lathe {

std::unique_ptr<CausalLM> make_gpt2(const ModelConfig& config);
WeightMapping gpt2_weight_mapping(const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_llama(const ModelConfig& config);
WeightMapping llama_weight_mapping(const ModelConfig& config, CheckpointFormat format);

}  // namespace lathe
