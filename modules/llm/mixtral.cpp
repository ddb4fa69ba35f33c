// Mixtral 8x7B and 8x22B: Jiang et al. 2024, section 2.
//
// Llama with a mixture of experts for the feed-forward net of every layer: the router keeps the two largest of its
// eight logits and their softmax, over the two alone, weighs what the two experts give.
// Unusual: files name an expert's projections w1 (gate), w3 (up) and w2 (down); transformers 5 keeps all experts of a
// layer in two tensors, and both forms are published. In GGUF the family is a llama with experts.
#include <nlohmann/json.hpp>

#include "block/pre_norm_block.h"
#include "common/mixture_of_experts.h"
#include "config/family_keys.h"
#include "llm/decoder.h"
#include "llm/families.h"

namespace lathe {
namespace {

using Mixtral = Decoder<PreNormBlock<RmsNorm, SparseOrDenseNet>, RmsNorm>;

WeightMapping mixtral_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  const std::string file = "model.layers.{}.block_sparse_moe.", mlp = "model.layers.{}.mlp.";
  WeightMapping m = llama_weight_mapping(config, format);
  add_fused_experts(m, config, format);
  if (format == CheckpointFormat::gguf) return m;
  m.rename(mlp + "gate.weight", mlp + "gate.weight").alternative();
  return m.rename(file + "gate.weight", mlp + "gate.weight")
      .rename(file + "experts.{}.w1.weight", mlp + "experts.{}.gate_proj.weight")
      .rename(file + "experts.{}.w3.weight", mlp + "experts.{}.up_proj.weight")
      .rename(file + "experts.{}.w2.weight", mlp + "experts.{}.down_proj.weight");
}

}  // namespace

// The rows of all experts of a layer below one another, gate and up of each expert side by side in one tensor (Hugging
// Face) or in two (GGUF; files of 2023 have a tensor an expert).
void add_fused_experts(WeightMapping& m, const ModelConfig& config, CheckpointFormat format) {
  const auto stack = [&](const std::string& source, const std::vector<std::string>& projections) -> WeightMapping& {
    std::vector<std::string> targets;
    for (int64_t e = 0; e < config.num_experts; ++e)
      for (const std::string& p : projections)
        targets.push_back("model.layers.{}.mlp.experts." + std::to_string(e) + "." + p + ".weight");
    return m.split(source, targets).stacked(config.num_experts);
  };
  if (format == CheckpointFormat::hugging_face) {
    stack("model.layers.{}.mlp.experts.gate_up_proj", {"gate_proj", "up_proj"}).alternative();
    stack("model.layers.{}.mlp.experts.down_proj", {"down_proj"}).alternative();
    return;
  }
  m.rename("blk.{}.ffn_gate_inp.weight", "model.layers.{}.mlp.gate.weight");
  for (const std::string name : {"gate", "up", "down"}) {
    m.rename("blk.{}.ffn_" + name + ".{}.weight", "model.layers.{}.mlp.experts.{}." + name + "_proj.weight")
        .alternative();
    stack("blk.{}.ffn_" + name + "_exps.weight", {name + "_proj"});
  }
}

Family mixtral_family() {
  Family f;
  f.name = "mixtral";
  f.architectures = {"MixtralForCausalLM"};
  f.model_types = {"mixtral"};
  f.gguf_architecture = "llama";
  f.variants = {"Mixtral 8x7B", "Mixtral 8x22B"};
  f.capabilities = {"completion", "chat"};
  f.published = {{"mixtral",
                  {"8x7B", "8x22B"},
                  {{"instruct", "mistralai/Mixtral-{size}-Instruct-v0.1"}, {"base", "mistralai/Mixtral-{size}-v0.1"}}}};
  f.defaults = llama_defaults(131072, 1e-5);
  ModelConfig& d = f.defaults;
  d.num_key_value_heads = 8;
  d.rope_theta = 1e6;
  d.bos_token_id = 1;
  d.eos_token_ids = {2};
  d.num_experts = 8;
  d.num_experts_per_tok = 2;
  d.norm_topk_prob = true;  // always: the file does not say
  f.json_keys = with_llama({{"sliding_window", ReadElsewhere{}},
                            {"num_experts", &ModelConfig::num_experts},
                            {"num_local_experts", &ModelConfig::num_experts},
                            {"num_experts_per_tok", &ModelConfig::num_experts_per_tok},
                            {"router_aux_loss_coef", &ModelConfig::router_aux_loss_coef}});
  f.read_together = [](ModelConfig& c, const nlohmann::json& root) {
    set_windows(c, read_window(c, root, "sliding_window", 0), [](int64_t) { return true; });
  };
  f.write_together = write_window;
  f.make = make_model<Mixtral>;
  f.weight_mapping = mixtral_weight_mapping;
  return f;
}

}  // namespace lathe
