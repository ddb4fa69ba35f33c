// Phi-3, Phi-3.5 mini and Phi-4: Abdin et al. 2024 (Phi-3, section 2; Phi-4, section 3).
//
// The arithmetic is Llama's. Unusual are the files: the rows of q, k and v are one tensor, those of gate and up
// another. The models for 128,000 tokens divide the rotary frequencies by a table for short texts and one for long ones
// (longrope, Ding et al. 2024), Phi-4-mini rotates three quarters of each head, and the 4k models see a window of keys.
#include <cstring>
#include <nlohmann/json.hpp>

#include "config/family_keys.h"
#include "formats/gguf.h"
#include "llm/families.h"

namespace lathe {
namespace {

const char* const kShortFactors = "rope_factors_short.weight";
const char* const kLongFactors = "rope_factors_long.weight";

void read_phi3(ModelConfig& c, const nlohmann::json& root) {
  set_windows(c, read_window(c, root, "sliding_window", 0), [](int64_t) { return true; });
  // Files without a scaling name an original context, too.
  if (c.rope_scaling == RopeScaling::none) c.rope_original_max_position = 0;
  // What the first files of Phi-3 call yarn was never that of Peng et al.
  if (c.rope_scaling == RopeScaling::yarn) c.rope_scaling = RopeScaling::longrope;
}

// GGUF has the tables as tensors and no word for the scaling.
void read_phi3_gguf(ModelConfig& c, const GgufFile& file) {
  for (const StoredTensor& tensor : file.tensors()) {
    if (tensor.name != kShortFactors && tensor.name != kLongFactors) continue;
    check(tensor.dtype == DType::f32 && tensor.shape.size() == 1, "config",
          "{}: tensor '{}' is of type {} and rank {}, expected F32 and 1", file.path(), tensor.name, tensor.type_name,
          tensor.shape.size());
    std::vector<float> factors(static_cast<size_t>(tensor.shape[0]));
    std::memcpy(factors.data(), tensor.data, tensor.bytes);
    (tensor.name == kLongFactors ? c.rope_long_factor : c.rope_short_factor).assign(factors.begin(), factors.end());
    c.rope_scaling = RopeScaling::longrope;
  }
  if (c.rope_scaling != RopeScaling::longrope) return;
  c.rope_original_max_position = file.require<int64_t>("phi3.rope.scaling.original_context_length");
  check(c.rope_original_max_position > 0, "config", "{}: metadata 'phi3.rope.scaling.original_context_length' is {}",
        file.path(), c.rope_original_max_position);
  c.rope_factor = static_cast<double>(c.max_position_embeddings) / static_cast<double>(c.rope_original_max_position);
}

// What is not fused has Llama's names, and rotated rows lie as the model has them.
WeightMapping phi3_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  const bool gguf = format == CheckpointFormat::gguf;
  const std::string block = gguf ? "blk.{}." : "model.layers.{}.", layer = "model.layers.{}.";
  WeightMapping m;
  m.split(block + (gguf ? "attn_qkv.weight" : "self_attn.qkv_proj.weight"),
          {layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight", layer + "self_attn.v_proj.weight"});
  m.split(block + (gguf ? "ffn_up.weight" : "mlp.gate_up_proj.weight"),
          {layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight"});
  WeightMapping rest = qwen_weight_mapping(config, format);
  rest.rules.insert(rest.rules.begin(), m.rules.begin(), m.rules.end());  // of two rules the first one holds
  return rest.skip(kShortFactors).skip(kLongFactors);
}

}  // namespace

Family phi3_family() {
  Family f;
  f.name = "phi3";
  f.architectures = {"Phi3ForCausalLM"};
  f.model_types = {"phi3"};
  f.variants = {"Phi-3", "Phi-3.5 mini", "Phi-4"};
  f.capabilities = {"completion", "chat"};
  f.published = {
      {"phi3", {"mini-4k", "mini-128k", "medium-4k", "medium-128k"}, {{"instruct", "microsoft/Phi-3-{size}-instruct"}}},
      {"phi3.5", {"mini"}, {{"instruct", "microsoft/Phi-3.5-{size}-instruct"}}},
      {"phi4", {"14b"}, {{"chat", "microsoft/phi-4"}, {"reasoning", "microsoft/Phi-4-reasoning"}}},
      {"phi4",
       {"mini"},
       {{"instruct", "microsoft/Phi-4-{size}-instruct"}, {"reasoning", "microsoft/Phi-4-{size}-reasoning"}}}};
  f.defaults = llama_defaults(4096, 1e-5);
  f.defaults.bos_token_id = 1;
  f.defaults.eos_token_ids = {32000};
  f.defaults.pad_token_id = 32000;
  f.json_keys = with_llama({{"sliding_window", ReadElsewhere{}}, {"partial_rotary_factor", ReadElsewhere{}}});
  f.read_together = read_phi3;
  f.write_together = write_window;
  f.read_gguf = read_phi3_gguf;
  f.make = make_llama;
  f.weight_mapping = phi3_weight_mapping;
  return f;
}

}  // namespace lathe
