// OLMo 2: OLMo Team 2024, section 3.2.
//
// Llama with RMSNorm after attention and feed-forward net, inside the residual, and none before them.
// Unusual: q and k are normalised over their whole projection, all heads together, before they are rotated.
#include "block/post_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {
namespace {

struct Olmo2Attention : GroupedQueryAttention {
  RmsNorm whole_q_norm, whole_k_norm;  // (Hq D), (Hk D)

  Olmo2Attention(const ModelConfig& c, int64_t layer)
      : GroupedQueryAttention(c, layer), whole_q_norm(c, heads * head_dim), whole_k_norm(c, kv_heads * head_dim) {}

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
  if (format == CheckpointFormat::hugging_face) {
    WeightMapping m;
    m.base_prefix = "model.";
    return m.skip("model.layers.{}.self_attn.rotary_emb.inv_freq");
  }
  WeightMapping m = gguf_mapping();
  rename_in_layers(m, "post_attention_norm", "post_attention_layernorm");
  return rename_in_layers(m, "post_ffw_norm", "post_feedforward_layernorm");
}

}  // namespace lathe
