// GPT-NeoX and Pythia: Black et al. 2022, section 2.1; Biderman et al. 2023.
//
// LayerNorm and biases everywhere, rotary positions on the first quarter of each head (rotary_dim), a GELU net.
// Unusual: attention and feed-forward net read the same residual stream, each through a norm of its own, unless
// use_parallel_residual is off; q, k and v are fused in one matrix, interleaved by head.
#include <nlohmann/json.hpp>

#include "block/parallel_block.h"
#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/config_export.h"
#include "config/family_keys.h"
#include "formats/gguf.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {
namespace {

WeightMapping gpt_neox_hugging_face_mapping(const ModelConfig& c) {
  const std::string prefix = "gpt_neox.", block = prefix + "layers.{}.", layer = "model.layers.{}.";
  WeightMapping m;
  m.base_prefix = prefix;
  for (const std::string kind : {"weight", "bias"}) {
    m.split(
         block + "attention.query_key_value." + kind,
         {layer + "self_attn.q_proj." + kind, layer + "self_attn.k_proj." + kind, layer + "self_attn.v_proj." + kind})
        .rows(grouped_qkv_rows(c.num_attention_heads, c.num_key_value_heads, c.head_dim));
    m.rename(block + "attention.dense." + kind, layer + "self_attn.o_proj." + kind);
    m.rename(block + "mlp.dense_h_to_4h." + kind, layer + "mlp.up_proj." + kind);
    m.rename(block + "mlp.dense_4h_to_h." + kind, layer + "mlp.down_proj." + kind);
    for (const std::string norm : {"input_layernorm.", "post_attention_layernorm."})
      m.rename(block + norm + kind, layer + norm + kind);
    m.rename(prefix + "final_layer_norm." + kind, "model.norm." + kind);
  }
  return m.rename(prefix + "embed_in.weight", "model.embed_tokens.weight")
      .rename("embed_out.weight", "lm_head.weight")
      .skip(block + "attention.bias")
      .skip(block + "attention.masked_bias")
      .skip(block + "attention.rotary_emb.inv_freq");
}

std::unique_ptr<CausalLM> make_gpt_neox(const ModelConfig& c) {
  using Serial = Decoder<PreNormBlock<LayerNorm, FeedForwardNet>, LayerNorm>;
  using Parallel = Decoder<ParallelBlock<LayerNorm, FeedForwardNet>, LayerNorm>;
  if (c.use_parallel_residual) return std::make_unique<Parallel>(c);
  return std::make_unique<Serial>(c);
}

WeightMapping gpt_neox_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) return gpt_neox_hugging_face_mapping(config);
  WeightMapping m = gguf_mapping_of_fused();
  rename_in_layers(m, "attn_norm", "input_layernorm");
  return rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
}

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

Family gpt_neox_family() {
  Family f;
  f.name = "gpt_neox";
  f.architectures = {"GPTNeoXForCausalLM"};
  f.model_types = {"gpt_neox"};
  f.gguf_architecture = "gptneox";
  f.variants = {"GPT-NeoX", "Pythia", "RedPajama-INCITE"};
  f.capabilities = {"completion", "chat"};
  f.published = {{"gpt-neox", {"20b"}, {{"base", "EleutherAI/gpt-neox-{size}"}}},
                 {"pythia",
                  {"14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"},
                  {{"base", "EleutherAI/pythia-{size}"}}},
                 {"redpajama-incite",
                  {"3B"},
                  {{"instruct", "togethercomputer/RedPajama-INCITE-Instruct-{size}-v1"},
                   {"chat", "togethercomputer/RedPajama-INCITE-Chat-{size}-v1"},
                   {"base", "togethercomputer/RedPajama-INCITE-Base-{size}-v1"}}}};
  f.rotated_share = 0.25;
  ModelConfig& d = f.defaults;
  d.hidden_act = "gelu";
  d.max_position_embeddings = 2048;
  d.rotary_dim = -1;
  d.use_parallel_residual = d.attention_bias = d.attention_output_bias = d.mlp_bias = true;
  d.bos_token_id = 0;
  d.eos_token_ids = {2};
  f.json_keys = with_rope(with_common({
      {"hidden_size", &ModelConfig::hidden_size, true},
      {"intermediate_size", &ModelConfig::intermediate_size, true},
      {"num_hidden_layers", &ModelConfig::num_hidden_layers, true},
      {"num_attention_heads", &ModelConfig::num_attention_heads, true},
      {"max_position_embeddings", &ModelConfig::max_position_embeddings},
      {"hidden_act", set_activation},
      {"layer_norm_eps", &ModelConfig::norm_eps},
      {"use_parallel_residual", &ModelConfig::use_parallel_residual},
      attention_bias_key(),
      {"rotary_emb_base", &ModelConfig::rope_theta},
      {"rotary_pct", ReadElsewhere{}},
      {"partial_rotary_factor", ReadElsewhere{}},
  }));
  f.read_gguf = read_gpt_neox_gguf;
  f.write_together = write_gpt_neox;
  f.write_gguf = write_gpt_neox_gguf;
  f.make = make_gpt_neox;
  f.weight_mapping = gpt_neox_weight_mapping;
  return f;
}

}  // namespace lathe
