// MPT: configuration_mpt.py of transformers 4 and 5.
#include <nlohmann/json.hpp>

#include "config/config_export.h"
#include "config/family_tables.h"
#include "formats/gguf.h"

namespace lathe {
namespace {

using M = ModelConfig;

void set_logit_scale(ModelConfig&, const JsonValue& value) { value.fail("null: nothing else is supported"); }

void set_attention(ModelConfig& c, const JsonValue& value) {
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

ConfigFamily mpt_family() {
  ConfigFamily family{"mpt", {"MptForCausalLM", "MPTForCausalLM"}, {}, {}};
  ModelConfig& d = family.defaults;
  d.hidden_act = "gelu";
  d.max_position_embeddings = 2048;
  d.alibi = d.tie_word_embeddings = true;
  family.json_keys = with_common({
      // As other families spell them, which transformers takes too.
      {"hidden_size", &M::hidden_size},
      {"num_hidden_layers", &M::num_hidden_layers},
      {"num_attention_heads", &M::num_attention_heads},
      {"d_model", &M::hidden_size, true},
      {"n_layers", &M::num_hidden_layers, true},
      {"n_heads", &M::num_attention_heads, true},
      {"expansion_ratio", ReadElsewhere{}},
      {"max_seq_len", &M::max_position_embeddings},
      {"layer_norm_epsilon", &M::norm_eps},
      {"attn_config", set_attention},
      {"logit_scale", set_logit_scale},
      {"no_bias", OnlyValue{true}},
  });
  family.read_together = read_mpt;
  family.read_gguf = read_mpt_gguf;
  family.write_together = write_mpt;
  family.write_gguf = write_mpt_gguf;
  return family;
}

}  // namespace lathe
