// Gemma 3, the text model: Gemma Team 2025, section 2.
//
// RMSNorm before and after attention and feed-forward net, and over each head of q and k; a gated GELU (tanh) net.
// Unusual: five layers in six see a window of keys and rotate with another base (rope_local_theta) than the sixth,
// which sees all and may be scaled; embeddings are multiplied by sqrt(C); scores are divided by
// sqrt(query_pre_attn_scalar), not always sqrt(D); Hugging Face files hold norm weights minus one (norm_offset), GGUF
// files hold them whole.
#include "block/sandwich_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "llm/decoder.h"
#include "llm/families.h"

namespace lathe {

std::unique_ptr<CausalLM> make_gemma3(const ModelConfig& config) {
  return std::make_unique<Decoder<SandwichNormBlock<RmsNorm, GatedFeedForwardNet>, RmsNorm>>(config);
}

// Hugging Face names are the model's own.
WeightMapping gemma3_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  WeightMapping m;
  if (format == CheckpointFormat::hugging_face) {
    m.base_prefix = "model.";
    return m;
  }
  const auto block = [&](const std::string& source, const std::string& target) {
    m.rename("blk.{}." + source + ".weight", "model.layers.{}." + target + ".weight");
  };
  block("attn_norm", "input_layernorm");
  block("attn_q", "self_attn.q_proj");
  block("attn_k", "self_attn.k_proj");
  block("attn_v", "self_attn.v_proj");
  block("attn_output", "self_attn.o_proj");
  block("attn_q_norm", "self_attn.q_norm");
  block("attn_k_norm", "self_attn.k_norm");
  block("post_attention_norm", "post_attention_layernorm");
  block("ffn_norm", "pre_feedforward_layernorm");
  block("ffn_gate", "mlp.gate_proj");
  block("ffn_up", "mlp.up_proj");
  block("ffn_down", "mlp.down_proj");
  block("post_ffw_norm", "post_feedforward_layernorm");
  return m.rename("token_embd.weight", "model.embed_tokens.weight")
      .rename("output_norm.weight", "model.norm.weight")
      .rename("output.weight", "lm_head.weight");
}

}  // namespace lathe
