// Qwen, the first generation: configuration_qwen.py of its published repositories.
#include <nlohmann/json.hpp>

#include "config/config_export.h"
#include "config/family_tables.h"

namespace lathe {

using M = ModelConfig;

ConfigFamily qwen1_family() {
  ConfigFamily family{"qwen", {"QWenLMHeadModel"}, {}, {}};
  ModelConfig& d = family.defaults;
  d.hidden_act = "silu";
  d.norm_eps = 1e-6;
  d.max_position_embeddings = 8192;
  d.rope_original_max_position = 8192;
  d.rotary_dim = -1;
  d.rope_scaling = RopeScaling::qwen;
  d.attention_bias = d.use_logn_attention = true;
  d.eos_token_ids = {151643};  // the published files leave it to the code
  family.json_keys = with_rope(with_common({
      {"hidden_size", &M::hidden_size, true},
      // Both halves of the gated net together.
      {"intermediate_size",
       [](M& c, const JsonValue& v) {
         if (v.integer() % 2 != 0) v.fail("an even number");
         c.intermediate_size = v.integer() / 2;
       },
       true},
      {"num_hidden_layers", &M::num_hidden_layers, true},
      {"num_attention_heads", &M::num_attention_heads, true},
      {"kv_channels", &M::head_dim},
      {"max_position_embeddings", &M::max_position_embeddings},
      {"seq_length", &M::rope_original_max_position},
      {"layer_norm_epsilon", &M::norm_eps},
      {"rotary_emb_base", &M::rope_theta},
      {"rotary_pct", ReadElsewhere{}},
      {"use_dynamic_ntk",
       [](M& c, const JsonValue& v) { c.rope_scaling = v.boolean() ? RopeScaling::qwen : RopeScaling::none; }},
      {"use_logn_attn", &M::use_logn_attention},
      {"no_bias", [](M& c, const JsonValue& v) { c.attention_output_bias = c.mlp_bias = !v.boolean(); }},
      {"scale_attn_weights", OnlyValue{true}},
  }));
  // GGUF says nothing of either way to go beyond the trained context, and counts the gated net as config.json does.
  family.read_gguf = [](ModelConfig& c, const GgufFile&) {
    c.intermediate_size /= 2;
    c.rope_scaling = RopeScaling::none;
    c.use_logn_attention = false;
  };
  family.write_together = [](const ModelConfig& c, nlohmann::ordered_json& root) {
    root["intermediate_size"] = 2 * c.intermediate_size;
    root["use_dynamic_ntk"] = c.rope_scaling == RopeScaling::qwen;
    root["no_bias"] = !c.mlp_bias;
  };
  family.write_gguf = [](const ModelConfig& c, GgufKeys& keys) {
    keys.set("feed_forward_length", 2 * c.intermediate_size);
  };
  family.lost_beyond_context = {"rope_scaling", "rope_original_max_position", "use_logn_attention"};
  return family;
}

}  // namespace lathe
