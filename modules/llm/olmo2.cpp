// OLMo 2: OLMo Team 2024, section 3.2.
//
// Llama with RMSNorm after attention and feed-forward net, inside the residual, and none before them.
// Unusual: q and k are normalised over their whole projection, all heads together, before they are rotated.
#include "block/post_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "llm/decoder.h"
#include "llm/families.h"

namespace lathe {
namespace {

struct Olmo2Attention : GroupedQueryAttention {
  RmsNorm whole_q_norm, whole_k_norm;  // (Hq D), (Hk D)

  Olmo2Attention(const ModelConfig& c, int64_t layer)
      : GroupedQueryAttention(c, layer),
        whole_q_norm(heads * head_dim, c.norm_eps),
        whole_k_norm(kv_heads * head_dim, c.norm_eps) {}

  Tensor operator()(const Tensor& x, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("self_attn");
    auto [q, k, v] = project(x);
    q = whole_q_norm(q);  // (N, Hq D)
    k = whole_k_norm(k);  // (N, Hk D)
    return attend_and_merge(q, k, v, batch);
  }

  void visit(Visitor& v) {
    GroupedQueryAttention::visit(v);
    v("q_norm", whole_q_norm);
    v("k_norm", whole_k_norm);
  }
};

}  // namespace

std::unique_ptr<CausalLM> make_olmo2(const ModelConfig& config) {
  return std::make_unique<Decoder<PostNormBlock<RmsNorm, GatedFeedForwardNet, Olmo2Attention>, RmsNorm>>(config);
}

// Hugging Face names are the model's own.
WeightMapping olmo2_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  WeightMapping m;
  if (format == CheckpointFormat::hugging_face) {
    m.base_prefix = "model.";
    return m.skip("model.layers.{}.self_attn.rotary_emb.inv_freq");
  }
  const auto block = [&](const std::string& source, const std::string& target) {
    m.rename("blk.{}." + source + ".weight", "model.layers.{}." + target + ".weight");
  };
  block("attn_q", "self_attn.q_proj");
  block("attn_k", "self_attn.k_proj");
  block("attn_v", "self_attn.v_proj");
  block("attn_output", "self_attn.o_proj");
  block("attn_q_norm", "self_attn.q_norm");
  block("attn_k_norm", "self_attn.k_norm");
  block("post_attention_norm", "post_attention_layernorm");
  block("ffn_gate", "mlp.gate_proj");
  block("ffn_up", "mlp.up_proj");
  block("ffn_down", "mlp.down_proj");
  block("post_ffw_norm", "post_feedforward_layernorm");
  return m.rename("token_embd.weight", "model.embed_tokens.weight")
      .rename("output_norm.weight", "model.norm.weight")
      .rename("output.weight", "lm_head.weight");
}

}  // namespace lathe
