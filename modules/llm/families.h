// What families take from one another; each is defined in the file of the one that had it first.
#pragma once
#include <memory>
#include <vector>

#include "llm/family.h"

namespace lathe {

std::unique_ptr<CausalLM> make_llama(const ModelConfig& config);
WeightMapping llama_weight_mapping(const ModelConfig& config, CheckpointFormat format);
// The same but for GGUF's order of the rows of q and k: the model's.
WeightMapping qwen_weight_mapping(const ModelConfig& config, CheckpointFormat format);

// Mixtral's: the rules for all experts of a layer in one tensor.
void add_fused_experts(WeightMapping& mapping, const ModelConfig& config, CheckpointFormat format);

// Qwen2's: Llama's keys, those of windows in some layers, and `more`.
std::vector<JsonKey> with_qwen2(std::vector<JsonKey> more);
// `sliding_window` of a file where use_sliding_window says so, else 0.
int64_t read_qwen2_window(const ModelConfig& config, const nlohmann::json& root);
void read_qwen2_windows(ModelConfig& config, const nlohmann::json& root);
void write_qwen2_windows(const ModelConfig& config, nlohmann::ordered_json& root);

// Gemma 2's: embeddings are multiplied by sqrt(C), and the net's activation is called hidden_activation.
void read_gemma_net(ModelConfig& config, const nlohmann::json& root);
// What its GGUF files leave to the program: whole norms, the embeddings' scale, and what scores are divided by: D, but
// in 27B, which is known by its number of layers.
void read_gemma_scales(ModelConfig& config, int64_t layers_of_27b);
// Gemma 3's: norms before and after attention and net.
WeightMapping gemma3_weight_mapping(const ModelConfig& config, CheckpointFormat format);

}  // namespace lathe
