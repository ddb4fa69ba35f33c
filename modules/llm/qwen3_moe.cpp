// Qwen3-MoE (30B-A3B, 235B-A22B, Qwen3-Coder): Yang et al. 2025, section 2.
//
// Qwen3's attention, norms over each head of q and k before rotation, and a mixture of 128 experts of which a token
// passes through 8. Unusual: a config may leave some layers one plain net (mlp_only_layers, decoder_sparse_step), and
// may weigh the chosen experts by their softmax over all of them without dividing by its sum (norm_topk_prob).
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "block/pre_norm_block.h"
#include "common/mixture_of_experts.h"
#include "config/family_keys.h"
#include "llm/decoder.h"
#include "llm/families.h"

namespace lathe {
namespace {

using Qwen3Moe = Decoder<PreNormBlock<RmsNorm, SparseOrDenseNet>, RmsNorm>;

// Hugging Face names are the model's own, an expert at a time.
WeightMapping qwen3_moe_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  WeightMapping m = qwen_weight_mapping(config, format);
  add_fused_experts(m, config, format);
  return m;
}

// A window is that of all layers. Experts are in every decoder_sparse_step-th layer but those that mlp_only_layers
// names.
void read_qwen3_moe(ModelConfig& c, const nlohmann::json& root) {
  set_windows(c, read_qwen2_window(c, root), [](int64_t) { return true; });
  const auto found = root.find("decoder_sparse_step");
  if (found == root.end() || found->is_null()) return;
  const JsonValue step(*found, c.source, "decoder_sparse_step");
  if (step.integer() < 1) step.fail("1 or more");
  std::set<int64_t> plain(c.mlp_only_layers.begin(), c.mlp_only_layers.end());
  for (int64_t layer = 0; layer < std::min(c.num_hidden_layers, ModelConfig::kMostLayers); ++layer)
    if ((layer + 1) % step.integer() != 0) plain.insert(layer);
  c.mlp_only_layers.assign(plain.begin(), plain.end());
}

void write_qwen3_moe(const ModelConfig& c, nlohmann::ordered_json& root) {
  root["use_sliding_window"] = largest_window(c) > 0;
  write_window(c, root);
}

}  // namespace

Family qwen3_moe_family() {
  Family f;
  f.name = "qwen3_moe";
  f.architectures = {"Qwen3MoeForCausalLM"};
  f.model_types = {"qwen3_moe"};
  f.gguf_architecture = "qwen3moe";
  f.variants = {"Qwen3 30B-A3B", "Qwen3 235B-A22B", "Qwen3-Coder"};
  f.capabilities = {"completion", "chat"};
  f.published = {{"qwen3",
                  {"30B-A3B"},
                  {{"chat", "Qwen/Qwen3-{size}"},
                   {"base", "Qwen/Qwen3-{size}-Base"},
                   {"instruct", "Qwen/Qwen3-{size}-Instruct-2507"},
                   {"reasoning", "Qwen/Qwen3-{size}-Thinking-2507"}}},
                 {"qwen3",
                  {"235B-A22B"},
                  {{"chat", "Qwen/Qwen3-{size}"},
                   {"instruct", "Qwen/Qwen3-{size}-Instruct-2507"},
                   {"reasoning", "Qwen/Qwen3-{size}-Thinking-2507"}}},
                 {"qwen3-coder", {"30B-A3B", "480B-A35B"}, {{"instruct", "Qwen/Qwen3-Coder-{size}-Instruct"}}}};
  f.defaults = llama_defaults(32768);
  ModelConfig& d = f.defaults;
  d.num_key_value_heads = 4;
  d.qk_norm = true;
  d.num_experts = 128;
  d.num_experts_per_tok = 8;
  d.moe_intermediate_size = 768;
  f.json_keys = with_qwen2({attention_bias_key(),
                            {"num_local_experts", &ModelConfig::num_experts},  // as transformers 5 writes it
                            {"num_experts", &ModelConfig::num_experts},
                            {"num_experts_per_tok", &ModelConfig::num_experts_per_tok},
                            {"moe_intermediate_size", &ModelConfig::moe_intermediate_size},
                            {"norm_topk_prob", &ModelConfig::norm_topk_prob},
                            {"router_aux_loss_coef", &ModelConfig::router_aux_loss_coef},
                            {"mlp_only_layers", &ModelConfig::mlp_only_layers},
                            {"decoder_sparse_step", ReadElsewhere{}}});
  f.read_together = read_qwen3_moe;
  f.write_together = write_qwen3_moe;
  f.make = make_model<Qwen3Moe>;
  f.weight_mapping = qwen3_moe_weight_mapping;
  return f;
}

}  // namespace lathe
