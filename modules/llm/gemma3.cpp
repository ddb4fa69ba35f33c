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
#include "llm/gguf_names.h"

namespace lathe {

std::unique_ptr<CausalLM> make_gemma3(const ModelConfig& config) {
  return std::make_unique<Decoder<SandwichNormBlock<RmsNorm, GatedFeedForwardNet>, RmsNorm>>(config);
}

// Hugging Face names are the model's own.
WeightMapping gemma3_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) {
    WeightMapping m;
    m.base_prefix = "model.";
    return m;
  }
  WeightMapping m = gguf_mapping();
  rename_in_layers(m, "attn_norm", "input_layernorm");
  rename_in_layers(m, "post_attention_norm", "post_attention_layernorm");
  rename_in_layers(m, "ffn_norm", "pre_feedforward_layernorm");
  return rename_in_layers(m, "post_ffw_norm", "post_feedforward_layernorm");
}

}  // namespace lathe
