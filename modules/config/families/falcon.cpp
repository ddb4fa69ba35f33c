// Falcon: configuration_falcon.py of transformers 4 and 5, and the older files of the RWForCausalLM class, which call
// the 40B decoder "RefinedWeb" and know it by its n_head_kv.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/family_tables.h"
#include "formats/gguf.h"

namespace lathe {
namespace {

using M = ModelConfig;

// Null is false in the reference, `otherwise` what a missing key means.
bool flag(const nlohmann::json& root, const char* key, bool otherwise) {
  const auto found = root.find(key);
  return found == root.end() ? otherwise : !found->is_null() && found->get<bool>();
}

// Which decoder it is. "new": as many key-value heads as the file says, parallel, a norm each unless
// num_ln_in_parallel_attn is 1. Else one key-value head or as many as queries, and one norm where it is parallel.
void read_falcon(ModelConfig& c, const nlohmann::json& root) {
  const bool named_heads = root.contains("n_head_kv") && !root.contains("multi_query");
  const bool is_new = flag(root, "new_decoder_architecture", named_heads);
  if (!is_new) c.num_key_value_heads = flag(root, "multi_query", true) ? 1 : c.num_attention_heads;
  c.use_parallel_residual = is_new || flag(root, "parallel_attn", true);
  c.shared_parallel_norm =
      c.use_parallel_residual && (!is_new || root.value("num_ln_in_parallel_attn", nlohmann::json(2)) == 1);
  if (c.alibi) c.rope_scaling = RopeScaling::none;
  const bool plausible = c.hidden_size > 0 && c.hidden_size < (int64_t{1} << 40);
  if (c.intermediate_size == 0 && plausible) c.intermediate_size = 4 * c.hidden_size;
}

void write_falcon(const ModelConfig& c, nlohmann::ordered_json& root) {
  const bool one = c.num_key_value_heads == 1, all = c.num_key_value_heads == c.num_attention_heads;
  root["new_decoder_architecture"] = (!one && !all) || (c.use_parallel_residual && !c.shared_parallel_norm);
  root["multi_query"] = one;
  root["parallel_attn"] = c.use_parallel_residual;
  root["num_ln_in_parallel_attn"] = c.shared_parallel_norm ? 1 : 2;
  root["bias"] = c.mlp_bias;
}

void read_falcon_gguf(ModelConfig& c, const GgufFile& file) {
  const auto& all = file.tensors();
  c.shared_parallel_norm =
      std::none_of(all.begin(), all.end(), [](const StoredTensor& t) { return t.name == "blk.0.attn_norm_2.weight"; });
}

}  // namespace

ConfigFamily falcon_family() {
  ConfigFamily family{"falcon", {"FalconForCausalLM", "RWForCausalLM"}, {}, {}};
  family.former_model_types = {"RefinedWeb", "RefinedWebModel"};
  ModelConfig& d = family.defaults;
  d.hidden_act = "gelu";
  d.max_position_embeddings = 2048;
  d.rotary_dim = -1;
  d.use_parallel_residual = d.tie_word_embeddings = true;
  d.bos_token_id = 11;
  d.eos_token_ids = {11};
  family.json_keys = with_rope(with_common({
      {"n_embed", &M::hidden_size},
      {"hidden_size", &M::hidden_size},
      {"ffn_hidden_size", &M::intermediate_size},
      {"n_layer", &M::num_hidden_layers},
      {"num_hidden_layers", &M::num_hidden_layers},
      {"n_head", &M::num_attention_heads},
      {"num_attention_heads", &M::num_attention_heads},
      {"n_head_kv", &M::num_key_value_heads},
      {"num_kv_heads", &M::num_key_value_heads},
      {"new_decoder_architecture", [](M&, const JsonValue& v) { v.boolean(); }},
      {"multi_query", [](M&, const JsonValue& v) { v.boolean(); }},
      {"parallel_attn", [](M&, const JsonValue& v) { v.boolean(); }},
      {"num_ln_in_parallel_attn", [](M&, const JsonValue& v) { v.integer(); }},
      {"max_position_embeddings", &M::max_position_embeddings},
      {"activation", set_activation},
      {"layer_norm_epsilon", &M::norm_eps},
      {"alibi", &M::alibi},
      {"bias", [](M& c, const JsonValue& v) { c.attention_bias = c.attention_output_bias = c.mlp_bias = v.boolean(); }},
      {"apply_residual_connection_post_layernorm", OnlyValue{false}},
  }));
  family.read_together = read_falcon;
  family.read_gguf = read_falcon_gguf;
  family.write_together = write_falcon;
  return family;
}

}  // namespace lathe
