// See config_export.h.
#include "config/config_export.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "config/config_families.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

const char* rope_scaling_name(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::linear: return "linear";
    case RopeScaling::dynamic: return "dynamic";
    case RopeScaling::llama3: return "llama3";
    case RopeScaling::yarn: return "yarn";
    case RopeScaling::longrope: return "longrope";
    case RopeScaling::qwen: return "qwen";
    default: return "default";
  }
}

struct FieldReader {
  const ModelConfig& c;
  Json operator()(RopeScaling ModelConfig::*f) const { return rope_scaling_name(c.*f); }
  Json operator()(std::optional<int64_t> ModelConfig::*f) const { return c.*f ? Json(*(c.*f)) : Json(); }
  Json operator()(std::optional<double> ModelConfig::*f) const { return c.*f ? Json(*(c.*f)) : Json(); }
  template <class T>
  Json operator()(T ModelConfig::*f) const {
    return c.*f;
  }
};

// A field's value; null where it is absent.
Json value_of(const ModelConfig& c, const FieldPointer& field) { return std::visit(FieldReader{c}, field); }

int64_t largest_window(const ModelConfig& c) {
  return c.layer_window.empty() ? 0 : *std::max_element(c.layer_window.begin(), c.layer_window.end());
}

// Keys that families read several of at once; null for what a family does not need to be told.
Json decided_together(const ModelConfig& c, const std::string& key) {
  const int64_t window = largest_window(c);
  if (key == "sliding_window") return window > 0 ? Json(window) : Json();
  if (key == "use_sliding_window") return window > 0;
  if (key == "layer_types" && window > 0) {
    Json types = Json::array();
    for (const int64_t w : c.layer_window) types.push_back(w > 0 ? "sliding_attention" : "full_attention");
    return types;
  }
  const double head_scale = 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  if (key == "query_pre_attn_scalar") return std::pow(c.attention_scale > 0 ? c.attention_scale : head_scale, -2.0);
  // Falcon
  const bool one = c.num_key_value_heads == 1, all = c.num_key_value_heads == c.num_attention_heads;
  if (key == "new_decoder_architecture") return (!one && !all) || (c.use_parallel_residual && !c.shared_parallel_norm);
  if (key == "multi_query") return one;
  if (key == "parallel_attn") return c.use_parallel_residual;
  if (key == "num_ln_in_parallel_attn") return c.shared_parallel_norm ? 1 : 2;
  if (key == "bias") return c.mlp_bias;
  // Qwen, the first generation
  if (key == "use_dynamic_ntk") return c.rope_scaling == RopeScaling::qwen;
  if (key == "no_bias") return !c.mlp_bias;
  // MPT
  if (key == "expansion_ratio") return c.intermediate_size / c.hidden_size;
  if (key == "attn_config") {
    Json config = {{"alibi", c.alibi}, {"alibi_bias_max", c.alibi_bias_max}};
    if (c.qkv_clip > 0) config["clip_qkv"] = c.qkv_clip;
    if (c.attention_scale > 0) config["softmax_scale"] = c.attention_scale;
    return config;
  }
  return {};
}

// What a key says that is read by a function of its own: these, and otherwise the field of the same name.
Json value_of(const ModelConfig& c, const std::string& key) {
  if (key == "architectures") return Json::array({c.architecture});
  if (key == "torch_dtype") return c.dtype;
  if (key == "dtype") return {};  // the newer spelling of the same
  if (key == "activation_function" || key == "hidden_activation" || key == "activation") return c.hidden_act;
  if (key == "eos_token_id") {
    if (c.eos_token_ids.size() == 1) return c.eos_token_ids[0];
    return c.eos_token_ids.empty() ? Json() : Json(c.eos_token_ids);
  }
  if (key == "intermediate_size" && c.model_type == "qwen") return 2 * c.intermediate_size;
  for (const NamedField& field : config_fields())
    if (field.name == key) return value_of(c, field.field);
  return decided_together(c, key);
}

// In the older spelling, which every version of transformers reads.
void add_rope(Json& root, const ModelConfig& c) {
  check(c.rope_frequency_factors.empty(), "config",
        "{}: rotary frequencies with a divisor each, which no rope_scaling of config.json says", c.source);
  root["rope_theta"] = c.rope_theta;
  if (c.rotary_dim != c.head_dim)
    root["partial_rotary_factor"] = static_cast<double>(c.rotary_dim) / static_cast<double>(c.head_dim);
  if (c.rope_scaling == RopeScaling::none) return;
  Json scaling = {{"rope_type", rope_scaling_name(c.rope_scaling)}, {"factor", c.rope_factor}};
  if (c.rope_scaling != RopeScaling::linear) scaling["original_max_position_embeddings"] = c.rope_original_max_position;
  if (c.rope_scaling == RopeScaling::llama3) {
    scaling["low_freq_factor"] = c.rope_low_freq_factor;
    scaling["high_freq_factor"] = c.rope_high_freq_factor;
  }
  if (c.rope_scaling == RopeScaling::yarn) {
    scaling["beta_fast"] = c.rope_beta_fast;
    scaling["beta_slow"] = c.rope_beta_slow;
    scaling["truncate"] = c.rope_truncate;
  }
  if (c.rope_scaling == RopeScaling::longrope) {
    scaling["short_factor"] = c.rope_short_factor;
    scaling["long_factor"] = c.rope_long_factor;
  }
  if (c.rope_attention_factor) scaling["attention_factor"] = *c.rope_attention_factor;
  root["rope_scaling"] = scaling;
}

// Numbers may have passed through f32 or a square root.
bool same(const Json& a, const Json& b) {
  if (!a.is_number_float() && !b.is_number_float()) return a == b;
  const double x = a.is_number() ? a.get<double>() : 0, y = b.is_number() ? b.get<double>() : 0;
  return a.is_number() == b.is_number() && std::abs(x - y) <= 1e-6 * std::abs(x);
}

void check_same(const ModelConfig& c, const ModelConfig& read, const NamedField& field, const char* form) {
  // 0 stands for 1 / sqrt(D).
  const auto value = [&](const ModelConfig& config) {
    if (field.name != "attention_scale" || config.attention_scale > 0) return value_of(config, field.field);
    return Json(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
  };
  const Json wrote = value(c), found = value(read);
  check(same(wrote, found), "config", "{}: {} is {}, which {} of a {} cannot say: it would be read as {}", c.source,
        field.name, wrote.dump(), form, c.model_type, found.dump());
}

class MetadataWriter {
 public:
  MetadataWriter(GgufMetadata& out, std::string architecture) : out_(out), prefix_(std::move(architecture) + ".") {}

  void operator()(const std::string& key, GgufValue value) { out_.emplace_back(prefix_ + key, std::move(value)); }

 private:
  GgufMetadata& out_;
  std::string prefix_;
};

void add_rope(MetadataWriter& put, const ModelConfig& c) {
  put("rope.dimension_count", c.rotary_dim);
  put("rope.freq_base", c.rope_theta);
  if (c.rope_local_theta > 0) put("rope.freq_base_swa", c.rope_local_theta);
  // llama3's is a tensor, and Qwen's is not known to the format: check_config_gguf tells.
  if (c.rope_scaling == RopeScaling::none || c.rope_scaling == RopeScaling::llama3 ||
      c.rope_scaling == RopeScaling::qwen)
    return;
  if (c.rope_scaling != RopeScaling::linear && c.rope_scaling != RopeScaling::yarn)
    throw Error(fmt::format("config: {}: GGUF has no rope scaling \"{}\"", c.source, rope_scaling_name(c.rope_scaling)),
                "without it the model is right only within its trained context; export a Hugging Face folder");
  put("rope.scaling.type", std::string(rope_scaling_name(c.rope_scaling)));
  put("rope.scaling.factor", c.rope_factor);
  if (c.rope_scaling != RopeScaling::yarn) return;
  put("rope.scaling.original_context_length", c.rope_original_max_position);
  put("rope.scaling.yarn_beta_fast", c.rope_beta_fast);
  put("rope.scaling.yarn_beta_slow", c.rope_beta_slow);
  // GGUF's factor multiplies what yarn computes by itself; the field replaces it.
  if (c.rope_attention_factor)
    put("rope.scaling.attn_factor", *c.rope_attention_factor / (0.1 * std::log(c.rope_factor) + 1.0));
}

void add_experts(MetadataWriter& put, const ModelConfig& c) {
  put("expert_count", c.num_experts);
  put("expert_used_count", c.num_experts_per_tok);
  put("expert_feed_forward_length", c.moe_intermediate_size);
  put("expert_weights_norm", c.norm_topk_prob);
}

// Gemma's windows follow from the architecture; llama.cpp asks there for a period where others have a list.
void add_windows(MetadataWriter& put, const ModelConfig& c) {
  put("attention.sliding_window", largest_window(c));
  if (c.rope_local_theta > 0) return;
  std::vector<bool> windowed;
  for (const int64_t window : c.layer_window) windowed.push_back(window > 0);
  if (std::find(windowed.begin(), windowed.end(), false) != windowed.end())
    put("attention.sliding_window_pattern", windowed);
}

}  // namespace

std::string to_config_json(const ModelConfig& c) {
  const ConfigFamily& family = find_config_family(c.architecture, c.model_type, c.source);
  Json root;
  bool rope = false;
  for (const JsonKey& key : family.json_keys) {
    rope |= key.name == "rope_theta";
    const auto* field = std::get_if<FieldPointer>(&key.meaning);
    const auto* only = std::get_if<OnlyValue>(&key.meaning);
    const Json value = field ? value_of(c, *field) : only ? Json(only->value) : value_of(c, key.name);
    if (!value.is_null()) root[key.name] = value;
  }
  if (c.eos_token_ids.empty()) root["eos_token_id"] = nullptr;  // absent, it would mean the family's usual one
  if (!c.bos_token_id) root["bos_token_id"] = nullptr;
  for (const char* key : {"rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor"}) root.erase(key);
  if (rope && c.uses_rope()) add_rope(root, c);
  std::string text = root.dump(2) + "\n";
  const ModelConfig read = parse_config_json(text, c.source);
  for (const NamedField& field : config_fields()) check_same(c, read, field, "config.json");
  return text;
}

GgufMetadata to_config_gguf(const ModelConfig& c) {
  const std::string& architecture = find_config_family(c.architecture, c.model_type, c.source).gguf_name();
  GgufMetadata out = {{"general.architecture", architecture}};
  MetadataWriter put(out, architecture);
  put("vocab_size", c.vocab_size);
  put("context_length", c.max_position_embeddings);
  put("embedding_length", c.hidden_size);
  put("block_count", c.num_hidden_layers);
  // Qwen's first generation counts both halves of the gated net.
  put("feed_forward_length", c.model_type == "qwen" ? 2 * c.intermediate_size : c.intermediate_size);
  put("attention.head_count", c.num_attention_heads);
  put("attention.head_count_kv", c.num_key_value_heads);
  put("attention.key_length", c.head_dim);
  put("attention.value_length", c.head_dim);
  // A reader asks for the one that its architecture's norm has.
  put("attention.layer_norm_epsilon", c.norm_eps);
  put("attention.layer_norm_rms_epsilon", c.norm_eps);
  if (c.uses_rope()) add_rope(put, c);
  if (largest_window(c) > 0) add_windows(put, c);
  if (c.num_experts > 0) add_experts(put, c);
  if (c.alibi) put("attention.max_alibi_bias", c.alibi_bias_max);
  if (c.qkv_clip > 0) put("attention.clamp_kqv", c.qkv_clip);
  if (c.final_logit_softcap > 0) put("final_logit_softcapping", c.final_logit_softcap);
  if (c.model_type == "gpt_neox") put("use_parallel_residual", c.use_parallel_residual);
  return out;
}

std::vector<std::string> check_config_gguf(const ModelConfig& c, const ModelConfig& read) {
  // Names and ids that are spelt otherwise there, and what matters to training alone.
  std::vector<std::string_view> ignored = {"architecture",      "model_type",   "dtype",
                                           "initializer_range", "bos_token_id", "eos_token_ids",
                                           "pad_token_id",      "norm_offset",  "router_aux_loss_coef"};
  std::vector<std::string> remarks;
  const auto ignore = [&](std::initializer_list<std::string_view> names) {
    ignored.insert(ignored.end(), names.begin(), names.end());
  };
  if (!c.uses_rope()) ignore({"rope_theta"});
  if (c.num_experts > 0) ignore({"intermediate_size"});  // of layers without experts, where there are any
  if (c.rope_scaling == RopeScaling::llama3)
    ignore(
        {"rope_scaling", "rope_factor", "rope_original_max_position", "rope_low_freq_factor", "rope_high_freq_factor"});
  if (c.rope_scaling == RopeScaling::qwen || c.use_logn_attention) {
    ignore({"rope_scaling", "rope_original_max_position", "use_logn_attention"});
    remarks.push_back("GGUF does not say how a Qwen goes beyond its trained context: the file is right within it");
  }
  for (const NamedField& field : config_fields())
    if (std::find(ignored.begin(), ignored.end(), field.name) == ignored.end()) check_same(c, read, field, "GGUF");
  return remarks;
}

}  // namespace lathe
