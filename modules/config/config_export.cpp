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

// What a key says that is read by a function of its own: these, and otherwise the field of the same name.
Json value_of(const ModelConfig& c, const std::string& key) {
  if (key == "architectures") return Json::array({c.architecture});
  if (key == "torch_dtype") return c.dtype;
  if (key == "dtype") return {};  // the newer spelling of the same
  if (key == "activation_function" || key == "hidden_activation") return c.hidden_act;
  if (key == "eos_token_id") {
    if (c.eos_token_ids.size() == 1) return c.eos_token_ids[0];
    return c.eos_token_ids.empty() ? Json() : Json(c.eos_token_ids);
  }
  for (const NamedField& field : config_fields())
    if (field.name == key) return value_of(c, field.field);
  return {};
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
    if (c.rope_attention_factor) scaling["attention_factor"] = *c.rope_attention_factor;
  }
  root["rope_scaling"] = scaling;
}

void check_read_back(const ModelConfig& c, const ModelConfig& read) {
  for (const NamedField& field : config_fields()) {
    const Json wrote = value_of(c, field.field), found = value_of(read, field.field);
    check(wrote == found, "config", "{}: {} is {}, which config.json of a {} cannot say: it would be read as {}",
          c.source, field.name, wrote.dump(), c.model_type, found.dump());
  }
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
  if (c.rope_scaling == RopeScaling::none || c.rope_scaling == RopeScaling::llama3) return;
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
  const std::string text = root.dump(2) + "\n";
  check_read_back(c, parse_config_json(text, c.source));
  return text;
}

GgufMetadata to_config_gguf(const ModelConfig& c) {
  const std::string& architecture = find_config_family(c.architecture, c.model_type, c.source).model_type;
  GgufMetadata out = {{"general.architecture", architecture}};
  MetadataWriter put(out, architecture);
  put("vocab_size", c.vocab_size);
  put("context_length", c.max_position_embeddings);
  put("embedding_length", c.hidden_size);
  put("block_count", c.num_hidden_layers);
  put("feed_forward_length", c.intermediate_size);
  put("attention.head_count", c.num_attention_heads);
  put("attention.head_count_kv", c.num_key_value_heads);
  put("attention.key_length", c.head_dim);
  put("attention.value_length", c.head_dim);
  // A reader asks for the one that its architecture's norm has.
  put("attention.layer_norm_epsilon", c.norm_eps);
  put("attention.layer_norm_rms_epsilon", c.norm_eps);
  if (c.uses_rope()) add_rope(put, c);
  return out;
}

}  // namespace lathe
