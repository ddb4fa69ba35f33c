// Falcon: Almazrouei et al. 2023, sections 4 and 5; the RW models: Penedo et al. 2023.
//
// LayerNorm, a GELU net of width 4 C, no biases on the linear layers (RW has them), a tied head.
// Unusual: attention and feed-forward net run in parallel, through one norm and with one key-value head (7B), or
// through two norms and with a key-value head a group (40B, 180B). RW is serial with ALiBi, whose slopes its code
// rounds to bf16 and divides by sqrt(D) with the scores; transformers also rounds each bias, slope times position, to
// bf16, which is not done here: neighbouring keys behind position 256 would share a bias.
#include <cmath>

#include "attention/alibi.h"
#include "block/parallel_block.h"
#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/model_config.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"
#include "tensor/dtype.h"

namespace lathe {
namespace {

struct FalconAttention : GroupedQueryAttention {
  FalconAttention(const ModelConfig& c, int64_t layer) : GroupedQueryAttention(c, layer) {
    if (!c.alibi) return;
    std::vector<float> values = alibi_slopes(c.num_attention_heads);
    for (float& slope : values) slope = bf16_to_f32(f32_to_bf16(slope)) * options.scale;
    use_alibi(std::move(values));
  }
};

// The norms have other names where there are two before one block.
WeightMapping falcon_hugging_face_mapping(const ModelConfig& c) {
  const std::string prefix = "transformer.", block = prefix + "h.{}.", layer = "model.layers.{}.";
  const bool two_norms = c.use_parallel_residual && !c.shared_parallel_norm;
  WeightMapping m;
  m.base_prefix = prefix;
  for (const std::string kind : {"weight", "bias"}) {
    m.split(
         block + "self_attention.query_key_value." + kind,
         {layer + "self_attn.q_proj." + kind, layer + "self_attn.k_proj." + kind, layer + "self_attn.v_proj." + kind})
        .rows(grouped_qkv_rows(c.num_attention_heads, c.num_key_value_heads, c.head_dim));
    m.rename(block + "self_attention.dense." + kind, layer + "self_attn.o_proj." + kind);
    m.rename(block + "mlp.dense_h_to_4h." + kind, layer + "mlp.up_proj." + kind);
    m.rename(block + "mlp.dense_4h_to_h." + kind, layer + "mlp.down_proj." + kind);
    m.rename(block + (two_norms ? "ln_attn." : "input_layernorm.") + kind, layer + "input_layernorm." + kind);
    m.rename(block + (two_norms ? "ln_mlp." : "post_attention_layernorm.") + kind,
             layer + "post_attention_layernorm." + kind);
    m.rename(prefix + "ln_f." + kind, "model.norm." + kind);
  }
  return m.rename(prefix + "word_embeddings.weight", "model.embed_tokens.weight")
      .skip(block + "self_attention.rotary_emb.inv_freq")
      .skip(block + "self_attention.rotary.inv_freq");
}

}  // namespace

std::unique_ptr<CausalLM> make_falcon(const ModelConfig& c) {
  using Serial = Decoder<PreNormBlock<LayerNorm, FeedForwardNet, FalconAttention>, LayerNorm>;
  using Parallel = Decoder<ParallelBlock<LayerNorm, FeedForwardNet, FalconAttention>, LayerNorm>;
  if (c.use_parallel_residual) return std::make_unique<Parallel>(c);
  return std::make_unique<Serial>(c);
}

WeightMapping falcon_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) return falcon_hugging_face_mapping(config);
  // The feed-forward net's norm is attn_norm where there are two, and attention's attn_norm_2.
  WeightMapping m = gguf_mapping_of_fused();
  const bool two_norms = config.use_parallel_residual && !config.shared_parallel_norm;
  rename_in_layers(m, two_norms ? "attn_norm_2" : "attn_norm", "input_layernorm");
  return rename_in_layers(m, "attn_norm", "post_attention_layernorm");
}

}  // namespace lathe
