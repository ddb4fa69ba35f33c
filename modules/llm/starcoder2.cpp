// StarCoder 2: Lozhkov et al. 2024, section 6.1.
//
// Llama's wiring with LayerNorm for RMSNorm, biases everywhere and a plain net with GELU (tanh form). Unusual: nothing
// but the few key-value heads (2 or 4 for 24 to 48 queries) and a window of 4,096 keys in all layers.
#include <nlohmann/json.hpp>

#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/family_keys.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {
namespace {

using Starcoder2 = Decoder<PreNormBlock<LayerNorm, FeedForwardNet>, LayerNorm>;

WeightMapping starcoder2_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::gguf) {
    WeightMapping m = gguf_mapping();
    rename_in_layers(m, "attn_norm", "input_layernorm");
    return rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
  }
  const std::string net = "model.layers.{}.mlp.";
  WeightMapping m;
  m.base_prefix = "model.";
  for (const std::string kind : {"weight", "bias"})
    m.rename(net + "c_fc." + kind, net + "up_proj." + kind).rename(net + "c_proj." + kind, net + "down_proj." + kind);
  return m;
}

void set_starcoder2_biases(ModelConfig& c, const JsonValue& v) {
  c.attention_bias = c.attention_output_bias = c.mlp_bias = v.boolean();
}

}  // namespace

Family starcoder2_family() {
  Family f;
  f.name = "starcoder2";
  f.architectures = {"Starcoder2ForCausalLM"};
  f.model_types = {"starcoder2"};
  f.variants = {"StarCoder 2"};
  f.capabilities = {"completion", "chat"};
  f.published = {{"starcoder2", {"3b", "7b"}, {{"base", "bigcode/starcoder2-{size}"}}},
                 {"starcoder2",
                  {"15b"},
                  {{"instruct", "bigcode/starcoder2-{size}-instruct-v0.1"}, {"base", "bigcode/starcoder2-{size}"}}}};
  f.defaults = llama_defaults(4096, 1e-5);
  ModelConfig& d = f.defaults;
  d.hidden_act = "gelu_pytorch_tanh";
  d.num_key_value_heads = 2;
  d.attention_bias = d.attention_output_bias = d.mlp_bias = d.tie_word_embeddings = true;
  d.initializer_range = 0.018042;
  d.bos_token_id = 50256;
  d.eos_token_ids = {50256};
  f.json_keys = with_rope(with_common({{"hidden_size", &ModelConfig::hidden_size, true},
                                       {"intermediate_size", &ModelConfig::intermediate_size, true},
                                       {"num_hidden_layers", &ModelConfig::num_hidden_layers, true},
                                       {"num_attention_heads", &ModelConfig::num_attention_heads, true},
                                       {"num_key_value_heads", &ModelConfig::num_key_value_heads},
                                       {"head_dim", &ModelConfig::head_dim},
                                       {"max_position_embeddings", &ModelConfig::max_position_embeddings},
                                       {"hidden_act", set_activation},
                                       {"norm_epsilon", &ModelConfig::norm_eps},
                                       {"use_bias", set_starcoder2_biases},
                                       {"sliding_window", ReadElsewhere{}}}));
  f.read_together = [](ModelConfig& c, const nlohmann::json& root) {
    set_windows(c, read_window(c, root, "sliding_window", 0), [](int64_t) { return true; });
  };
  f.write_together = [](const ModelConfig& c, nlohmann::ordered_json& root) {
    root["use_bias"] = c.mlp_bias;
    write_window(c, root);
  };
  f.make = make_model<Starcoder2>;
  f.weight_mapping = starcoder2_weight_mapping;
  return f;
}

}  // namespace lathe
