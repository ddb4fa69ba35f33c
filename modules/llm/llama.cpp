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
#include "llm/decoder.h"
#include "llm/families.h"

namespace lathe {

std::unique_ptr<CausalLM> make_llama(const ModelConfig& config) {
  return std::make_unique<Decoder<PreNormBlock<RmsNorm, GatedFeedForwardNet>, RmsNorm>>(config);
}

// Hugging Face names are the model's own.
WeightMapping llama_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) {
    WeightMapping m;
    m.base_prefix = "model.";
    return m.skip("model.layers.{}.self_attn.rotary_emb.inv_freq");
  }
  return llama_gguf_mapping(interleaved_rope_rows(config.head_dim));
}

// GGUF keeps the half-split pairs of Qwen's q and k where it makes neighbours of Llama's.
WeightMapping qwen_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  return format == CheckpointFormat::gguf ? llama_gguf_mapping(nullptr) : llama_weight_mapping(config, format);
}

WeightMapping llama_gguf_mapping(const RowPermutation& rotated_rows) {
  WeightMapping m;
  for (const char* kind : {"weight", "bias"}) {
    const auto block = [&](const std::string& source, const std::string& target) -> WeightMapping& {
      return m.rename("blk.{}." + source + "." + kind, "model.layers.{}." + target + "." + kind);
    };
    block("attn_q", "self_attn.q_proj").rows(rotated_rows);
    block("attn_k", "self_attn.k_proj").rows(rotated_rows);
    block("attn_v", "self_attn.v_proj");
    block("attn_output", "self_attn.o_proj");
    block("ffn_gate", "mlp.gate_proj");
    block("ffn_up", "mlp.up_proj");
    block("ffn_down", "mlp.down_proj");
    block("attn_norm", "input_layernorm");
    block("attn_q_norm", "self_attn.q_norm");
    block("attn_k_norm", "self_attn.k_norm");
    block("ffn_norm", "post_attention_layernorm");
  }
  return m.rename("token_embd.weight", "model.embed_tokens.weight")
      .rename("output_norm.weight", "model.norm.weight")
      .rename("output.weight", "lm_head.weight")
      .skip("rope_freqs.weight");
}

}  // namespace lathe
