// Qwen, the first generation: Bai et al. 2023, sections 2.3 and 3.1.
//
// Llama with biases on q, k and v, which are one matrix, and a config whose intermediate_size counts both halves of the
// gated net. Unusual: behind the trained context queries are multiplied by the logarithm of their position to its base
// (log-n attention, Su 2021), and the rotary base grows in steps (RopeScaling::qwen). Files call the gate w2.
#include <nlohmann/json.hpp>

#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/config_export.h"
#include "config/family_keys.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {
namespace {

struct QwenAttention : GroupedQueryAttention {
  int64_t trained = 0;  // tokens; 0: queries stay as they are

  QwenAttention(const ModelConfig& c, int64_t layer)
      : GroupedQueryAttention(c, layer), trained(c.use_logn_attention ? c.rope_original_max_position : 0) {}

  Tensor operator()(const Tensor& x, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("self_attn");
    auto [q, k, v] = project(x);
    if (trained > 0) q = scale_rows(q, log_position_factors(batch.positions, trained, q.dtype()));  // (N, Hq D)
    return attend_and_project(q, k, v, batch);
  }
};

using Qwen = Decoder<PreNormBlock<RmsNorm, GatedFeedForwardNet, QwenAttention>, RmsNorm>;

WeightMapping qwen_first_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::gguf) {
    WeightMapping m = gguf_mapping_of_fused();
    rename_in_layers(m, "attn_norm", "input_layernorm");
    return rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
  }
  const std::string prefix = "transformer.", block = prefix + "h.{}.", layer = "model.layers.{}.";
  WeightMapping m;
  m.base_prefix = prefix;
  for (const std::string kind : {".weight", ".bias"})
    m.split(block + "attn.c_attn" + kind,
            {layer + "self_attn.q_proj" + kind, layer + "self_attn.k_proj" + kind, layer + "self_attn.v_proj" + kind});
  return m.rename(block + "attn.c_proj.weight", layer + "self_attn.o_proj.weight")
      .rename(block + "mlp.w2.weight", layer + "mlp.gate_proj.weight")
      .rename(block + "mlp.w1.weight", layer + "mlp.up_proj.weight")
      .rename(block + "mlp.c_proj.weight", layer + "mlp.down_proj.weight")
      .rename(block + "ln_1.weight", layer + "input_layernorm.weight")
      .rename(block + "ln_2.weight", layer + "post_attention_layernorm.weight")
      .rename(prefix + "ln_f.weight", "model.norm.weight")
      .rename(prefix + "wte.weight", "model.embed_tokens.weight")
      .skip(prefix + "rotary_emb.inv_freq")
      .skip(block + "attn.masked_bias");
}

}  // namespace

Family qwen_family() {
  Family f;
  f.name = "qwen";
  f.architectures = {"QWenLMHeadModel"};
  f.model_types = {"qwen"};
  f.variants = {"Qwen 1.8B", "Qwen 7B", "Qwen 14B", "Qwen 72B"};
  f.capabilities = {"completion", "chat"};
  f.published = {{"qwen", {"1.8B"}, {{"chat", "Qwen/Qwen-1_8B-Chat"}, {"base", "Qwen/Qwen-1_8B"}}},
                 {"qwen", {"7B", "14B", "72B"}, {{"chat", "Qwen/Qwen-{size}-Chat"}, {"base", "Qwen/Qwen-{size}"}}}};
  ModelConfig& d = f.defaults;
  d.hidden_act = "silu";
  d.norm_eps = 1e-6;
  d.max_position_embeddings = 8192;
  d.rope_original_max_position = 8192;
  d.rotary_dim = -1;
  d.rope_scaling = RopeScaling::qwen;
  d.attention_bias = d.use_logn_attention = true;
  d.eos_token_ids = {151643};  // the published files leave it to the code
  f.json_keys = with_rope(with_common({
      {"hidden_size", &ModelConfig::hidden_size, true},
      // Both halves of the gated net together.
      {"intermediate_size",
       [](ModelConfig& c, const JsonValue& v) {
         if (v.integer() % 2 != 0) v.fail("an even number");
         c.intermediate_size = v.integer() / 2;
       },
       true},
      {"num_hidden_layers", &ModelConfig::num_hidden_layers, true},
      {"num_attention_heads", &ModelConfig::num_attention_heads, true},
      {"kv_channels", &ModelConfig::head_dim},
      {"max_position_embeddings", &ModelConfig::max_position_embeddings},
      {"seq_length", &ModelConfig::rope_original_max_position},
      {"layer_norm_epsilon", &ModelConfig::norm_eps},
      {"rotary_emb_base", &ModelConfig::rope_theta},
      {"rotary_pct", ReadElsewhere{}},
      {"use_dynamic_ntk",
       [](ModelConfig& c, const JsonValue& v) {
         c.rope_scaling = v.boolean() ? RopeScaling::qwen : RopeScaling::none;
       }},
      {"use_logn_attn", &ModelConfig::use_logn_attention},
      {"no_bias", [](ModelConfig& c, const JsonValue& v) { c.attention_output_bias = c.mlp_bias = !v.boolean(); }},
      {"scale_attn_weights", OnlyValue{true}},
  }));
  // GGUF says nothing of either way to go beyond the trained context, and counts the gated net as config.json does.
  f.read_gguf = [](ModelConfig& c, const GgufFile&) {
    c.intermediate_size /= 2;
    c.rope_scaling = RopeScaling::none;
    c.use_logn_attention = false;
  };
  f.write_together = [](const ModelConfig& c, nlohmann::ordered_json& root) {
    root["intermediate_size"] = 2 * c.intermediate_size;
    root["use_dynamic_ntk"] = c.rope_scaling == RopeScaling::qwen;
    root["no_bias"] = !c.mlp_bias;
  };
  f.write_gguf = [](const ModelConfig& c, GgufKeys& keys) { keys.set("feed_forward_length", 2 * c.intermediate_size); };
  f.lost_beyond_context = {"rope_scaling", "rope_original_max_position", "use_logn_attention"};
  f.make = make_model<Qwen>;
  f.weight_mapping = qwen_first_weight_mapping;
  return f;
}

}  // namespace lathe
