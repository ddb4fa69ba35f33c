// Llama 2, 3, 3.x and Code Llama, and what shares their architecture (SmolLM2, TinyLlama); Mistral, Qwen2 and Qwen3 by
// options of the config.
//
// Touvron et al. 2023 (Llama 2, section 2.2); Grattafiori et al. 2024 (Llama 3, section 3.2).
// Pre-norm blocks with RMSNorm, rotary positions on half-split pairs, grouped-query attention and a SwiGLU net.
// Unusual: nothing. Every other family is described by its difference from this one:
//   Mistral (Jiang et al. 2023, section 2)    layer_window: a query sees the last 4096 keys; Nemo: head_dim < C / Hq
//   Qwen2   (Yang et al. 2024, section 2.2)   attention_bias: on q, k and v, not on the output; layer_window in some
//   Qwen3   (Yang et al. 2025, section 2)     qk_norm: RMSNorm over each head of q and k before rotation; no biases
#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/model_config.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {

std::unique_ptr<CausalLM> make_llama(const ModelConfig& config) {
  return std::make_unique<Decoder<PreNormBlock<RmsNorm, GatedFeedForwardNet>, RmsNorm>>(config);
}

namespace {

WeightMapping with_norms(WeightMapping gguf) {
  rename_in_layers(gguf, "attn_norm", "input_layernorm");
  return rename_in_layers(gguf, "ffn_norm", "post_attention_layernorm").skip("rope_freqs.weight");
}

}  // namespace

// Hugging Face names are the model's own.
WeightMapping llama_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  if (format == CheckpointFormat::gguf) return with_norms(gguf_mapping(interleaved_rope_rows(config.head_dim)));
  WeightMapping m;
  m.base_prefix = "model.";
  return m.skip("model.layers.{}.self_attn.rotary_emb.inv_freq");
}

// GGUF keeps the half-split pairs of Qwen's q and k where it makes neighbours of Llama's.
WeightMapping qwen_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  return format == CheckpointFormat::gguf ? with_norms(gguf_mapping()) : llama_weight_mapping(config, format);
}

}  // namespace lathe
