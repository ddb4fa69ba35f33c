// MPT: MosaicML 2023, "Introducing MPT-7B".
//
// Pre-norm blocks, a GELU net (erf form), a tied head. Unusual: positions are ALiBi's biases alone; there is no bias on
// anything, the norms included; the projections are clamped before they attend where the file has a clip_qkv.
#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "llm/decoder.h"
#include "llm/families.h"

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
  const bool gguf = format == CheckpointFormat::gguf;
  const std::string prefix = gguf ? "" : "transformer.", layer = "model.layers.{}.";
  WeightMapping m;
  m.base_prefix = prefix;
  const auto block = [&](const char* hugging_face, const char* in_gguf) {
    return gguf ? std::string("blk.{}.") + in_gguf + ".weight" : prefix + "blocks.{}." + hugging_face + ".weight";
  };
  m.split(block("attn.Wqkv", "attn_qkv"),
          {layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight", layer + "self_attn.v_proj.weight"});
  m.rename(block("attn.out_proj", "attn_output"), layer + "self_attn.o_proj.weight");
  m.rename(block("ffn.up_proj", "ffn_up"), layer + "mlp.up_proj.weight");
  m.rename(block("ffn.down_proj", "ffn_down"), layer + "mlp.down_proj.weight");
  m.rename(block("norm_1", "attn_norm"), layer + "input_layernorm.weight");
  m.rename(block("norm_2", "ffn_norm"), layer + "post_attention_layernorm.weight");
  if (gguf) m.rename("output.weight", "lm_head.weight");
  return m.rename(gguf ? "output_norm.weight" : prefix + "norm_f.weight", "model.norm.weight")
      .rename(gguf ? "token_embd.weight" : prefix + "wte.weight", "model.embed_tokens.weight");
}

}  // namespace lathe
