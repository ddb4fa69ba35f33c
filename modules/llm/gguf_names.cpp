#include "llm/gguf_names.h"

namespace lathe {
namespace {

const std::string kSource = "blk.{}.", kTarget = "model.layers.{}.";

WeightMapping common() {
  WeightMapping m;
  for (const std::string kind : {"weight", "bias"}) m.rename("output_norm." + kind, "model.norm." + kind);
  m.rename("token_embd.weight", "model.embed_tokens.weight").rename("output.weight", "lm_head.weight");
  rename_in_layers(m, "attn_output", "self_attn.o_proj");
  rename_in_layers(m, "ffn_gate", "mlp.gate_proj");
  rename_in_layers(m, "ffn_up", "mlp.up_proj");
  return rename_in_layers(m, "ffn_down", "mlp.down_proj");
}

}  // namespace

WeightMapping& rename_in_layers(WeightMapping& mapping, const std::string& source, const std::string& target) {
  for (const std::string kind : {".weight", ".bias"}) mapping.rename(kSource + source + kind, kTarget + target + kind);
  return mapping;
}

WeightMapping gguf_mapping(const RowPermutation& rotated_rows) {
  WeightMapping m = common();
  for (const std::string kind : {".weight", ".bias"})
    for (const std::string part : {"q", "k"})
      m.rename(kSource + "attn_" + part + kind, kTarget + "self_attn." + part + "_proj" + kind).rows(rotated_rows);
  rename_in_layers(m, "attn_v", "self_attn.v_proj");
  rename_in_layers(m, "attn_q_norm", "self_attn.q_norm");
  return rename_in_layers(m, "attn_k_norm", "self_attn.k_norm");
}

WeightMapping gguf_mapping_of_fused() {
  WeightMapping m = common();
  const std::string attention = kTarget + "self_attn.";
  for (const std::string kind : {".weight", ".bias"})
    m.split(kSource + "attn_qkv" + kind,
            {attention + "q_proj" + kind, attention + "k_proj" + kind, attention + "v_proj" + kind});
  return m;
}

}  // namespace lathe
