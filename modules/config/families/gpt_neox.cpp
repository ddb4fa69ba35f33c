// GPT-NeoX and Pythia: configuration_gpt_neox.py of transformers 4 and 5.
#include <nlohmann/json.hpp>

#include "config/config_export.h"
#include "config/family_tables.h"
#include "formats/gguf.h"

namespace lathe {
namespace {

using M = ModelConfig;

void read_gpt_neox_gguf(ModelConfig& c, const GgufFile& file) {
  if (const auto parallel = file.get<bool>("gptneox.use_parallel_residual")) c.use_parallel_residual = *parallel;
}

void write_gpt_neox(const ModelConfig& c, nlohmann::ordered_json& root) {
  root["rotary_pct"] = static_cast<double>(c.rotary_dim) / static_cast<double>(c.head_dim);
}

void write_gpt_neox_gguf(const ModelConfig& c, GgufKeys& keys) {
  keys.set("use_parallel_residual", c.use_parallel_residual);
}

}  // namespace

ConfigFamily gpt_neox_family() {
  ConfigFamily family{"gpt_neox", {"GPTNeoXForCausalLM"}, {}, {}};
  family.gguf_architecture = "gptneox";
  family.rotated_share = 0.25;
  ModelConfig& d = family.defaults;
  d.hidden_act = "gelu";
  d.max_position_embeddings = 2048;
  d.rotary_dim = -1;
  d.use_parallel_residual = d.attention_bias = d.attention_output_bias = d.mlp_bias = true;
  d.bos_token_id = 0;
  d.eos_token_ids = {2};
  family.json_keys = with_rope(with_common({
      {"hidden_size", &M::hidden_size, true},
      {"intermediate_size", &M::intermediate_size, true},
      {"num_hidden_layers", &M::num_hidden_layers, true},
      {"num_attention_heads", &M::num_attention_heads, true},
      {"max_position_embeddings", &M::max_position_embeddings},
      {"hidden_act", set_activation},
      {"layer_norm_eps", &M::norm_eps},
      {"use_parallel_residual", &M::use_parallel_residual},
      attention_bias_key(),
      {"rotary_emb_base", &M::rope_theta},
      {"rotary_pct", ReadElsewhere{}},
      {"partial_rotary_factor", ReadElsewhere{}},
  }));
  family.read_gguf = read_gpt_neox_gguf;
  family.write_together = write_gpt_neox;
  family.write_gguf = write_gpt_neox_gguf;
  return family;
}

}  // namespace lathe
