// MPT: MosaicML 2023, "Introducing MPT-7B".
//
// Pre-norm blocks, a GELU net (erf form), a tied head. Unusual: positions are ALiBi's biases alone; there is no bias on
// anything, the norms included; the projections are clamped before they attend where the file has a clip_qkv.
#include <nlohmann/json.hpp>

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

struct MptNorm : LayerNorm {
  explicit MptNorm(const ModelConfig& c) : LayerNorm(c.hidden_size, c.norm_eps, false) {}
};

struct MptAttention : GroupedQueryAttention {
  double clip;

  MptAttention(const ModelConfig& c, int64_t layer) : GroupedQueryAttention(c, layer), clip(c.qkv_clip) {}

  Tensor operator()(const Tensor& x, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("self_attn");
    auto [q, k, v] = project(x);
    if (clip > 0.0) q = clamp(q, clip), k = clamp(k, clip), v = clamp(v, clip);
    return attend_and_project(q, k, v, batch);
  }
};

using Mpt = Decoder<PreNormBlock<MptNorm, FeedForwardNet, MptAttention>, MptNorm>;

WeightMapping mpt_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::gguf) {
    WeightMapping m = gguf_mapping_of_fused();
    rename_in_layers(m, "attn_norm", "input_layernorm");
    return rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
  }
  const std::string prefix = "transformer.", block = prefix + "blocks.{}.", layer = "model.layers.{}.";
  WeightMapping m;
  m.base_prefix = prefix;
  m.split(block + "attn.Wqkv.weight",
          {layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight", layer + "self_attn.v_proj.weight"});
  return m.rename(block + "attn.out_proj.weight", layer + "self_attn.o_proj.weight")
      .rename(block + "ffn.up_proj.weight", layer + "mlp.up_proj.weight")
      .rename(block + "ffn.down_proj.weight", layer + "mlp.down_proj.weight")
      .rename(block + "norm_1.weight", layer + "input_layernorm.weight")
      .rename(block + "norm_2.weight", layer + "post_attention_layernorm.weight")
      .rename(prefix + "norm_f.weight", "model.norm.weight")
      .rename(prefix + "wte.weight", "model.embed_tokens.weight");
}

void set_mpt_attention(ModelConfig& c, const JsonValue& value) {
  if (!value.raw().is_object()) value.fail("an object or null");
  for (const auto& [key, item] : value.raw().items()) {
    if (item.is_null()) continue;
    const JsonValue at(item, c.source, "attn_config." + key);
    if (key == "attn_type") {
      if (at.text() != "multihead_attention") at.fail("multihead_attention: nothing else is supported");
    } else if (key == "alibi") {
      if (!at.boolean()) at.fail("true: nothing else is supported");
    } else if (key == "prefix_lm" || key == "qk_ln") {
      if (at.boolean()) at.fail("false: nothing else is supported");
    } else if (key == "alibi_bias_max") {
      c.alibi_bias_max = at.number();
    } else if (key == "clip_qkv") {
      c.qkv_clip = at.number();
    } else if (key == "softmax_scale") {
      c.attention_scale = at.number();
    } else {
      keep_unknown(c, "attn_config.", key, value.raw(),
                   {"attn_type", "alibi", "prefix_lm", "qk_ln", "alibi_bias_max", "clip_qkv", "softmax_scale"});
    }
  }
}

// The net's width is a multiple of the stream's.
void read_mpt(ModelConfig& c, const nlohmann::json& root) {
  const auto found = root.find("expansion_ratio");
  const int64_t ratio = found == root.end() ? 4 : JsonValue(*found, c.source, "expansion_ratio").integer();
  if (ratio < 1 || ratio > 1024) JsonValue(*found, c.source, "expansion_ratio").fail("an integer from 1 to 1024");
  const bool plausible = c.hidden_size > 0 && c.hidden_size < (int64_t{1} << 40);
  if (plausible) c.intermediate_size = ratio * c.hidden_size;
}

void write_mpt(const ModelConfig& c, nlohmann::ordered_json& root) {
  root["expansion_ratio"] = c.intermediate_size / c.hidden_size;
  nlohmann::ordered_json attention = {{"alibi", c.alibi}, {"alibi_bias_max", whole_number(c.alibi_bias_max)}};
  if (c.qkv_clip > 0) attention["clip_qkv"] = c.qkv_clip;
  if (c.attention_scale > 0) attention["softmax_scale"] = c.attention_scale;
  root["attn_config"] = attention;
}

void read_mpt_gguf(ModelConfig& c, const GgufFile& file) {
  if (const auto bias = file.get<double>("mpt.attention.max_alibi_bias")) c.alibi_bias_max = *bias;
  if (const auto clip = file.get<double>("mpt.attention.clamp_kqv")) c.qkv_clip = *clip;
}

void write_mpt_gguf(const ModelConfig& c, GgufKeys& keys) {
  keys.set("attention.max_alibi_bias", c.alibi_bias_max);
  if (c.qkv_clip > 0) keys.set("attention.clamp_kqv", c.qkv_clip);
}

}  // namespace

Family mpt_family() {
  Family f;
  f.name = "mpt";
  f.architectures = {"MptForCausalLM", "MPTForCausalLM"};
  f.model_types = {"mpt"};
  f.variants = {"MPT"};
  f.capabilities = {"completion", "chat"};
  f.published = {{"mpt",
                  {"7b", "30b"},
                  {{"chat", "mosaicml/mpt-{size}-chat"},
                   {"instruct", "mosaicml/mpt-{size}-instruct"},
                   {"base", "mosaicml/mpt-{size}"}}},
                 {"mpt", {"7b"}, {{"storywriter", "mosaicml/mpt-{size}-storywriter"}}},
                 {"mpt",
                  {"7b-8k"},
                  {{"chat", "mosaicml/mpt-{size}-chat"},
                   {"instruct", "mosaicml/mpt-{size}-instruct"},
                   {"base", "mosaicml/mpt-{size}"}}}};
  ModelConfig& d = f.defaults;
  d.hidden_act = "gelu";
  d.max_position_embeddings = 2048;
  d.alibi = d.tie_word_embeddings = true;
  f.json_keys = with_common({
      // As other families spell them, which transformers takes too.
      {"hidden_size", &ModelConfig::hidden_size},
      {"num_hidden_layers", &ModelConfig::num_hidden_layers},
      {"num_attention_heads", &ModelConfig::num_attention_heads},
      {"d_model", &ModelConfig::hidden_size, true},
      {"n_layers", &ModelConfig::num_hidden_layers, true},
      {"n_heads", &ModelConfig::num_attention_heads, true},
      {"expansion_ratio", ReadElsewhere{}},
      {"max_seq_len", &ModelConfig::max_position_embeddings},
      {"layer_norm_epsilon", &ModelConfig::norm_eps},
      {"attn_config", set_mpt_attention},
      {"logit_scale", [](ModelConfig&, const JsonValue& v) { v.fail("null: nothing else is supported"); }},
      {"no_bias", OnlyValue{true}},
  });
  f.read_together = read_mpt;
  f.read_gguf = read_mpt_gguf;
  f.write_together = write_mpt;
  f.write_gguf = write_mpt_gguf;
  f.make = make_model<Mpt>;
  f.weight_mapping = mpt_weight_mapping;
  return f;
}

}  // namespace lathe
