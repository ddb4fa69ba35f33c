// What each family file provides to the registry.
#pragma once
#include <memory>

#include "llm/causal_lm.h"
#include "load_model/weight_mapping.h"

namespace lathe {

struct ConfigFamily;  // config/config_families.h

std::unique_ptr<CausalLM> make_gpt2(const ModelConfig& config);
WeightMapping gpt2_weight_mapping(const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_llama(const ModelConfig& config);
WeightMapping llama_weight_mapping(const ModelConfig& config, CheckpointFormat format);
WeightMapping qwen_weight_mapping(const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_mixtral(const ModelConfig& config);
WeightMapping mixtral_weight_mapping(const ModelConfig& config, CheckpointFormat format);
// The rules for all experts of a layer in one tensor.
void add_fused_experts(WeightMapping& mapping, const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_qwen3_moe(const ModelConfig& config);
WeightMapping qwen3_moe_weight_mapping(const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_gpt_neox(const ModelConfig& config);
WeightMapping gpt_neox_weight_mapping(const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_falcon(const ModelConfig& config);
WeightMapping falcon_weight_mapping(const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_mpt(const ModelConfig& config);
WeightMapping mpt_weight_mapping(const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_gemma3(const ModelConfig& config);
WeightMapping gemma3_weight_mapping(const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_olmo2(const ModelConfig& config);
WeightMapping olmo2_weight_mapping(const ModelConfig& config, CheckpointFormat format);

std::unique_ptr<CausalLM> make_qwen1(const ModelConfig& config);
WeightMapping qwen1_weight_mapping(const ModelConfig& config, CheckpointFormat format);

// Llama's arithmetic: make_llama.
WeightMapping phi3_weight_mapping(const ModelConfig& config, CheckpointFormat format);
ConfigFamily phi3_config();

}  // namespace lathe
