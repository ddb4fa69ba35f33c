// Qwen3-MoE (30B-A3B, 235B-A22B, Qwen3-Coder): Yang et al. 2025, section 2.
//
// Qwen3's attention, norms over each head of q and k before rotation, and a mixture of 128 experts of which a token
// passes through 8. Unusual: a config may leave some layers one plain net (mlp_only_layers, decoder_sparse_step), and
// may weigh the chosen experts by their softmax over all of them without dividing by its sum (norm_topk_prob).
#include "block/pre_norm_block.h"
#include "common/mixture_of_experts.h"
#include "llm/decoder.h"
#include "llm/families.h"

namespace lathe {

std::unique_ptr<CausalLM> make_qwen3_moe(const ModelConfig& config) {
  return std::make_unique<Decoder<PreNormBlock<RmsNorm, SparseOrDenseNet>, RmsNorm>>(config);
}

// Hugging Face names are the model's own, an expert at a time.
WeightMapping qwen3_moe_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  WeightMapping m = qwen_weight_mapping(config, format);
  add_fused_experts(m, config, format);
  return m;
}

}  // namespace lathe
