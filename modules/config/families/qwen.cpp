// Qwen2, Qwen3 and Qwen3-MoE: Llama's keys, sliding windows in some layers, experts in some. Defaults are those of
// transformers' configuration_qwen2.py, configuration_qwen3.py and configuration_qwen3_moe.py.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "config/family_tables.h"

namespace lathe {
namespace {

using M = ModelConfig;

// The layers of Qwen2 and Qwen3 that `layer_types` names, or those from max_window_layers on, have a window where
// use_sliding_window says so. Qwen3-MoE has neither key and windows in all layers.
void read_qwen_windows(ModelConfig& c, const nlohmann::json& root) {
  const auto value = [&](const char* key) { return JsonValue(root.at(key), c.source, key); };
  const auto has = [&](const char* key) { return root.contains(key) && !root.at(key).is_null(); };
  const bool used = has("use_sliding_window") && value("use_sliding_window").boolean();
  const int64_t window = used ? read_window(c, root, "sliding_window", 4096) : 0;
  if (c.model_type == "qwen3_moe") return set_windows(c, window, [](int64_t) { return true; });
  const int64_t first = has("max_window_layers") ? value("max_window_layers").integer() : 28;
  if (!read_layer_types(c, root, window)) set_windows(c, window, [=](int64_t layer) { return layer >= first; });
}

void write_qwen_windows(const ModelConfig& c, nlohmann::ordered_json& root) {
  root["use_sliding_window"] = largest_window(c) > 0;
  write_window(c, root);
  if (c.model_type != "qwen3_moe") write_layer_types(c, root);
}

std::vector<JsonKey> with_qwen(std::vector<JsonKey> more) {
  for (const char* name : {"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"})
    more.push_back({name, ReadElsewhere{}});
  return with_llama(std::move(more));
}

}  // namespace

ConfigFamily qwen2_family() {
  ConfigFamily family{"qwen2", {"Qwen2ForCausalLM"}, llama_defaults(32768), with_qwen({})};
  family.defaults.num_key_value_heads = 32;
  family.defaults.attention_bias = true;  // on q, k and v always: the file does not say
  family.read_together = read_qwen_windows;
  family.write_together = write_qwen_windows;
  return family;
}

ConfigFamily qwen3_family() {
  ConfigFamily family{"qwen3", {"Qwen3ForCausalLM"}, llama_defaults(32768), with_qwen({attention_bias_key()})};
  family.defaults.num_key_value_heads = 32;
  family.defaults.head_dim = 128;
  family.defaults.qk_norm = true;
  family.read_together = read_qwen_windows;
  family.write_together = write_qwen_windows;
  return family;
}

ConfigFamily qwen3_moe_family() {
  ConfigFamily family{"qwen3_moe", {"Qwen3MoeForCausalLM"}, llama_defaults(32768), {}, "qwen3moe"};
  ModelConfig& d = family.defaults;
  d.num_key_value_heads = 4;
  d.qk_norm = true;
  d.num_experts = 128;
  d.num_experts_per_tok = 8;
  d.moe_intermediate_size = 768;
  family.json_keys = with_qwen({attention_bias_key(),
                                {"num_local_experts", &M::num_experts},  // as transformers 5 writes it
                                {"num_experts", &M::num_experts},
                                {"num_experts_per_tok", &M::num_experts_per_tok},
                                {"moe_intermediate_size", &M::moe_intermediate_size},
                                {"norm_topk_prob", &M::norm_topk_prob},
                                {"router_aux_loss_coef", &M::router_aux_loss_coef},
                                {"mlp_only_layers", &M::mlp_only_layers},
                                {"decoder_sparse_step", ReadElsewhere{}}});
  // Experts are in every decoder_sparse_step-th layer but those that mlp_only_layers names.
  family.read_together = [](ModelConfig& c, const nlohmann::json& root) {
    read_qwen_windows(c, root);
    const auto found = root.find("decoder_sparse_step");
    if (found == root.end() || found->is_null()) return;
    const JsonValue step(*found, c.source, "decoder_sparse_step");
    if (step.integer() < 1) step.fail("1 or more");
    std::set<int64_t> plain(c.mlp_only_layers.begin(), c.mlp_only_layers.end());
    for (int64_t layer = 0; layer < std::min(c.num_hidden_layers, ModelConfig::kMostLayers); ++layer)
      if ((layer + 1) % step.integer() != 0) plain.insert(layer);
    c.mlp_only_layers.assign(plain.begin(), plain.end());
  };
  family.write_together = write_qwen_windows;
  return family;
}

}  // namespace lathe
