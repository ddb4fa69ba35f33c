// OLMo 2: OLMo Team 2024, section 3.2.
//
// Llama with RMSNorm after attention and feed-forward net, inside the residual, and none before them.
// Unusual: q and k are normalised over their whole projection, all heads together, before they are rotated.
#include "block/post_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/family_keys.h"
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
    return attend_and_project(q, k, v, batch);
  }

  void visit(Visitor& v) {
    GroupedQueryAttention::visit(v);
    v("q_norm", whole_q_norm);
    v("k_norm", whole_k_norm);
  }
};

using Olmo2 = Decoder<PostNormBlock<RmsNorm, GatedFeedForwardNet, Olmo2Attention>, RmsNorm>;

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

}  // namespace

Family olmo2_family() {
  Family f;
  f.name = "olmo2";
  f.architectures = {"Olmo2ForCausalLM"};
  f.model_types = {"olmo2"};
  f.variants = {"OLMo 2"};
  f.capabilities = {"completion", "chat"};
  f.published = {
      {"olmo2", {"1B"}, {{"instruct", "allenai/OLMo-2-0425-{size}-Instruct"}, {"base", "allenai/OLMo-2-0425-{size}"}}},
      {"olmo2",
       {"7B", "13B"},
       {{"instruct", "allenai/OLMo-2-1124-{size}-Instruct"}, {"base", "allenai/OLMo-2-1124-{size}"}}},
      {"olmo2",
       {"32B"},
       {{"instruct", "allenai/OLMo-2-0325-{size}-Instruct"}, {"base", "allenai/OLMo-2-0325-{size}"}}}};
  f.defaults = llama_defaults(2048, 1e-5);
  f.defaults.eos_token_ids = {50279};
  f.defaults.pad_token_id = 1;
  f.json_keys = with_llama({attention_bias_key()});
  f.make = make_model<Olmo2>;
  f.weight_mapping = olmo2_weight_mapping;
  return f;
}

}  // namespace lathe
