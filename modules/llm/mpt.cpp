// MPT: MosaicML 2023, "Introducing MPT-7B".
//
// Pre-norm blocks, a GELU net (erf form), a tied head. Unusual: positions are ALiBi's biases alone; there is no bias on
// anything, the norms included; the projections are clamped before they attend where the file has a clip_qkv.
#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/model_config.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {
namespace {

struct MptNorm : LayerNorm {
  explicit MptNorm(const ModelConfig& c) : LayerNorm(c.hidden_size, c.norm_eps, false) {}
};

struct MptAttention : GroupedQueryAttention {
  double clip;

  MptAttention(const ModelConfig& c, int64_t layer) : GroupedQueryAttention(c, layer), clip(c.qkv_clip) {}

  Tensor operator()(const Tensor& x, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("self_attn");
    auto [q, k, v] = project(x);
    if (clip > 0.0) q = clamp(q, clip), k = clamp(k, clip), v = clamp(v, clip);
    return attend_and_merge(q, k, v, batch);
  }
};

}  // namespace

std::unique_ptr<CausalLM> make_mpt(const ModelConfig& config) {
  return std::make_unique<Decoder<PreNormBlock<MptNorm, FeedForwardNet, MptAttention>, MptNorm>>(config);
}

WeightMapping mpt_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::gguf) {
    WeightMapping m = gguf_mapping_of_fused();
    rename_in_layers(m, "attn_norm", "input_layernorm");
    return rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
  }
  const std::string prefix = "transformer.", block = prefix + "blocks.{}.", layer = "model.layers.{}.";
  WeightMapping m;
  m.base_prefix = prefix;
  m.split(block + "attn.Wqkv.weight",
          {layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight", layer + "self_attn.v_proj.weight"});
  return m.rename(block + "attn.out_proj.weight", layer + "self_attn.o_proj.weight")
      .rename(block + "ffn.up_proj.weight", layer + "mlp.up_proj.weight")
      .rename(block + "ffn.down_proj.weight", layer + "mlp.down_proj.weight")
      .rename(block + "norm_1.weight", layer + "input_layernorm.weight")
      .rename(block + "norm_2.weight", layer + "post_attention_layernorm.weight")
      .rename(prefix + "norm_f.weight", "model.norm.weight")
      .rename(prefix + "wte.weight", "model.embed_tokens.weight");
}

}  // namespace lathe
