// GPT-NeoX and Pythia: Black et al. 2022, section 2.1; Biderman et al. 2023.
//
// LayerNorm and biases everywhere, rotary positions on the first quarter of each head (rotary_dim), a GELU net.
// Unusual: attention and feed-forward net read the same residual stream, each through a norm of its own, unless
// use_parallel_residual is off; q, k and v are fused in one matrix, interleaved by head.
#include "block/parallel_block.h"
#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/model_config.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {
namespace {

WeightMapping gpt_neox_hugging_face_mapping(const ModelConfig& c) {
  const std::string prefix = "gpt_neox.", block = prefix + "layers.{}.", layer = "model.layers.{}.";
  WeightMapping m;
  m.base_prefix = prefix;
  for (const std::string kind : {"weight", "bias"}) {
    m.split(
         block + "attention.query_key_value." + kind,
         {layer + "self_attn.q_proj." + kind, layer + "self_attn.k_proj." + kind, layer + "self_attn.v_proj." + kind})
        .rows(grouped_qkv_rows(c.num_attention_heads, c.num_key_value_heads, c.head_dim));
    m.rename(block + "attention.dense." + kind, layer + "self_attn.o_proj." + kind);
    m.rename(block + "mlp.dense_h_to_4h." + kind, layer + "mlp.up_proj." + kind);
    m.rename(block + "mlp.dense_4h_to_h." + kind, layer + "mlp.down_proj." + kind);
    for (const std::string norm : {"input_layernorm.", "post_attention_layernorm."})
      m.rename(block + norm + kind, layer + norm + kind);
    m.rename(prefix + "final_layer_norm." + kind, "model.norm." + kind);
  }
  return m.rename(prefix + "embed_in.weight", "model.embed_tokens.weight")
      .rename("embed_out.weight", "lm_head.weight")
      .skip(block + "attention.bias")
      .skip(block + "attention.masked_bias")
      .skip(block + "attention.rotary_emb.inv_freq");
}

}  // namespace

std::unique_ptr<CausalLM> make_gpt_neox(const ModelConfig& c) {
  using Serial = Decoder<PreNormBlock<LayerNorm, FeedForwardNet>, LayerNorm>;
  using Parallel = Decoder<ParallelBlock<LayerNorm, FeedForwardNet>, LayerNorm>;
  if (c.use_parallel_residual) return std::make_unique<Parallel>(c);
  return std::make_unique<Serial>(c);
}

WeightMapping gpt_neox_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) return gpt_neox_hugging_face_mapping(config);
  WeightMapping m = gguf_mapping_of_fused();
  rename_in_layers(m, "attn_norm", "input_layernorm");
  return rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
}

}  // namespace lathe
