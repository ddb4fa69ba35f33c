// Falcon: Almazrouei et al. 2023, sections 4 and 5; the RW models: Penedo et al. 2023.
//
// LayerNorm, a GELU net of width 4 C, no biases on the linear layers (RW has them), a tied head.
// Unusual: attention and feed-forward net run in parallel, through one norm and with one key-value head (7B), or
// through two norms and with a key-value head a group (40B, 180B). RW is serial with ALiBi, whose slopes its code
// rounds to bf16 and divides by sqrt(D) with the scores; transformers also rounds each bias, slope times position, to
// bf16, which is not done here: neighbouring keys behind position 256 would share a bias.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "attention/alibi.h"
#include "block/parallel_block.h"
#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/family_keys.h"
#include "formats/gguf.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"
#include "tensor/dtype.h"

namespace lathe {
namespace {

struct FalconAttention : GroupedQueryAttention {
  FalconAttention(const ModelConfig& c, int64_t layer) : GroupedQueryAttention(c, layer) {
    if (!c.alibi) return;
    std::vector<float> values = alibi_slopes(c);
    for (float& slope : values) slope = bf16_to_f32(f32_to_bf16(slope)) * options.scale;
    use_alibi(values);
  }
};

// The norms have other names where there are two before one block.
WeightMapping falcon_hugging_face_mapping(const ModelConfig& c) {
  const std::string prefix = "transformer.", block = prefix + "h.{}.", layer = "model.layers.{}.";
  const bool two_norms = c.use_parallel_residual && !c.shared_parallel_norm;
  WeightMapping m;
  m.base_prefix = prefix;
  for (const std::string kind : {"weight", "bias"}) {
    m.split(
         block + "self_attention.query_key_value." + kind,
         {layer + "self_attn.q_proj." + kind, layer + "self_attn.k_proj." + kind, layer + "self_attn.v_proj." + kind})
        .rows(grouped_qkv_rows(c.num_attention_heads, c.num_key_value_heads, c.head_dim));
    m.rename(block + "self_attention.dense." + kind, layer + "self_attn.o_proj." + kind);
    m.rename(block + "mlp.dense_h_to_4h." + kind, layer + "mlp.up_proj." + kind);
    m.rename(block + "mlp.dense_4h_to_h." + kind, layer + "mlp.down_proj." + kind);
    m.rename(block + (two_norms ? "ln_attn." : "input_layernorm.") + kind, layer + "input_layernorm." + kind);
    m.rename(block + (two_norms ? "ln_mlp." : "post_attention_layernorm.") + kind,
             layer + "post_attention_layernorm." + kind);
    m.rename(prefix + "ln_f." + kind, "model.norm." + kind);
  }
  return m.rename(prefix + "word_embeddings.weight", "model.embed_tokens.weight")
      .skip(block + "self_attention.rotary_emb.inv_freq")
      .skip(block + "self_attention.rotary.inv_freq");
}

std::unique_ptr<CausalLM> make_falcon(const ModelConfig& c) {
  using Serial = Decoder<PreNormBlock<LayerNorm, FeedForwardNet, FalconAttention>, LayerNorm>;
  using Parallel = Decoder<ParallelBlock<LayerNorm, FeedForwardNet, FalconAttention>, LayerNorm>;
  if (c.use_parallel_residual) return std::make_unique<Parallel>(c);
  return std::make_unique<Serial>(c);
}

WeightMapping falcon_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) return falcon_hugging_face_mapping(config);
  // The feed-forward net's norm is attn_norm where there are two, and attention's attn_norm_2.
  WeightMapping m = gguf_mapping_of_fused();
  const bool two_norms = config.use_parallel_residual && !config.shared_parallel_norm;
  rename_in_layers(m, two_norms ? "attn_norm_2" : "attn_norm", "input_layernorm");
  return rename_in_layers(m, "attn_norm", "post_attention_layernorm");
}

// config.json: configuration_falcon.py of transformers 4 and 5, and the older files of the RWForCausalLM class, which
// call the 40B decoder "RefinedWeb" and know it by its n_head_kv.

// Null is false in the reference, `otherwise` what a missing key means.
bool falcon_flag(const nlohmann::json& root, const char* key, bool otherwise) {
  const auto found = root.find(key);
  return found == root.end() ? otherwise : !found->is_null() && found->get<bool>();
}

// Which decoder it is. "new": as many key-value heads as the file says, parallel, a norm each unless
// num_ln_in_parallel_attn is 1. Else one key-value head or as many as queries, and one norm where it is parallel.
void read_falcon(ModelConfig& c, const nlohmann::json& root) {
  const bool named_heads = root.contains("n_head_kv") && !root.contains("multi_query");
  const bool is_new = falcon_flag(root, "new_decoder_architecture", named_heads);
  if (!is_new) c.num_key_value_heads = falcon_flag(root, "multi_query", true) ? 1 : c.num_attention_heads;
  c.use_parallel_residual = is_new || falcon_flag(root, "parallel_attn", true);
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

Family falcon_family() {
  Family f;
  f.name = "falcon";
  f.architectures = {"FalconForCausalLM", "RWForCausalLM"};
  f.model_types = {"falcon", "RefinedWeb", "RefinedWebModel"};
  f.variants = {"Falcon", "Falcon RW", "Falcon 2"};
  f.capabilities = {"completion", "chat"};
  f.published = {
      {"falcon", {"7b", "40b"}, {{"instruct", "tiiuae/falcon-{size}-instruct"}, {"base", "tiiuae/falcon-{size}"}}},
      {"falcon", {"180B"}, {{"chat", "tiiuae/falcon-{size}-chat"}, {"base", "tiiuae/falcon-{size}"}}},
      {"falcon-rw", {"1b", "7b"}, {{"base", "tiiuae/falcon-rw-{size}"}}},
      {"falcon2", {"11B"}, {{"base", "tiiuae/falcon-{size}"}}}};
  ModelConfig& d = f.defaults;
  d.hidden_act = "gelu";
  d.max_position_embeddings = 2048;
  d.rotary_dim = -1;
  d.use_parallel_residual = d.tie_word_embeddings = true;
  d.bos_token_id = 11;
  d.eos_token_ids = {11};
  f.json_keys = with_rope(with_common({
      {"n_embed", &ModelConfig::hidden_size},
      {"hidden_size", &ModelConfig::hidden_size},
      {"ffn_hidden_size", &ModelConfig::intermediate_size},
      {"n_layer", &ModelConfig::num_hidden_layers},
      {"num_hidden_layers", &ModelConfig::num_hidden_layers},
      {"n_head", &ModelConfig::num_attention_heads},
      {"num_attention_heads", &ModelConfig::num_attention_heads},
      {"n_head_kv", &ModelConfig::num_key_value_heads},
      {"num_kv_heads", &ModelConfig::num_key_value_heads},
      {"new_decoder_architecture", [](ModelConfig&, const JsonValue& v) { v.boolean(); }},
      {"multi_query", [](ModelConfig&, const JsonValue& v) { v.boolean(); }},
      {"parallel_attn", [](ModelConfig&, const JsonValue& v) { v.boolean(); }},
      {"num_ln_in_parallel_attn", [](ModelConfig&, const JsonValue& v) { v.integer(); }},
      {"max_position_embeddings", &ModelConfig::max_position_embeddings},
      {"activation", set_activation},
      {"layer_norm_epsilon", &ModelConfig::norm_eps},
      {"alibi", &ModelConfig::alibi},
      {"bias", [](ModelConfig& c,
                  const JsonValue& v) { c.attention_bias = c.attention_output_bias = c.mlp_bias = v.boolean(); }},
      {"apply_residual_connection_post_layernorm", OnlyValue{false}},
  }));
  f.read_together = read_falcon;
  f.read_gguf = read_falcon_gguf;
  f.write_together = write_falcon;
  f.make = make_falcon;
  f.weight_mapping = falcon_weight_mapping;
  return f;
}

}  // namespace lathe
