// See config_export.h.
#include "config/config_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "config/config_values.h"
#include "config/family_keys.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

// What a key says that is read by a function: the field of the same name, but for these. Null: nothing.
Json value_of(const ModelConfig& c, const JsonKey& key) {
  if (const auto* setter = std::get_if<Setter>(&key.meaning); setter && *setter == set_activation) return c.hidden_act;
  if (key.name == "architectures") return Json::array({c.architecture});
  if (key.name == "torch_dtype") return c.dtype;
  if (key.name == "dtype") return {};  // the newer spelling of the same
  if (key.name == "eos_token_id") {
    if (c.eos_token_ids.size() == 1) return c.eos_token_ids[0];
    return c.eos_token_ids.empty() ? Json() : Json(c.eos_token_ids);
  }
  for (const NamedField& field : config_fields())
    if (field.name == key.name) return field_value(c, field.field);
  return {};
}

// In the older spelling, which every version of transformers reads.
void add_rope(Json& root, const ModelConfig& c, const char* share_key, double usual_share) {
  check(c.rope_frequency_factors.empty(), "config",
        "{}: rotary frequencies with a divisor each, which no rope_scaling of config.json says", c.source);
  root["rope_theta"] = c.rope_theta;
  const double share = static_cast<double>(c.rotary_dim) / static_cast<double>(c.head_dim);
  if (share != usual_share) root[share_key] = share;
  if (c.rope_scaling == RopeScaling::none) return;
  Json scaling = {{"rope_type", rope_scaling_name(c.rope_scaling)}, {"factor", c.rope_factor}};
  if (c.rope_original_max_position > 0) scaling["original_max_position_embeddings"] = c.rope_original_max_position;
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

// Throws Error naming every field that came back with another value, but the ignored ones.
void check_same(const ModelConfig& c, const ModelConfig& read, const std::vector<std::string>& ignored,
                const char* form, const char* hooks) {
  std::vector<std::string> lost;
  for (const NamedField& field : config_fields()) {
    if (std::find(ignored.begin(), ignored.end(), field.name) != ignored.end()) continue;
    // 0 stands for 1 / sqrt(D).
    const auto value = [&](const ModelConfig& config) {
      if (field.name != "attention_scale" || config.attention_scale > 0) return field_value(config, field.field);
      return Json(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
    };
    const Json wrote = value(c), found = value(read);
    if (!same(wrote, found))
      lost.push_back(fmt::format("{} is {} and would be read as {}", field.name, wrote.dump(), found.dump()));
  }
  if (lost.empty()) return;
  throw Error(fmt::format("config: {}: {} of a {} cannot say {}: {}", c.source, form, c.model_type,
                          lost.size() == 1 ? "a field" : fmt::format("{} fields", lost.size()), fmt::join(lost, "; ")),
              fmt::format("what it says of this family is decided by its {} (docs/adding_a_model.md, step 1)", hooks));
}

void add_rope(GgufKeys& keys, const ModelConfig& c) {
  keys.set("rope.dimension_count", c.rotary_dim);
  keys.set("rope.freq_base", c.rope_theta);
  // llama3's is a tensor; of the others the format says these two, and check_config_gguf tells.
  if (c.rope_scaling != RopeScaling::linear && c.rope_scaling != RopeScaling::yarn) return;
  keys.set("rope.scaling.type", std::string(rope_scaling_name(c.rope_scaling)));
  keys.set("rope.scaling.factor", c.rope_factor);
  if (c.rope_scaling != RopeScaling::yarn) return;
  keys.set("rope.scaling.original_context_length", c.rope_original_max_position);
  keys.set("rope.scaling.yarn_beta_fast", c.rope_beta_fast);
  keys.set("rope.scaling.yarn_beta_slow", c.rope_beta_slow);
  // GGUF's factor multiplies what yarn computes by itself; the field replaces it.
  if (c.rope_attention_factor)
    keys.set("rope.scaling.attn_factor", *c.rope_attention_factor / (0.1 * std::log(c.rope_factor) + 1.0));
}

void add_experts(GgufKeys& keys, const ModelConfig& c) {
  keys.set("expert_count", c.num_experts);
  keys.set("expert_used_count", c.num_experts_per_tok);
  keys.set("expert_feed_forward_length", c.moe_intermediate_size);
  keys.set("expert_weights_norm", c.norm_topk_prob);
}

// The longest window, and the layers that have it where not all do.
void add_windows(GgufKeys& keys, const ModelConfig& c) {
  keys.set("attention.sliding_window", largest_window(c));
  std::vector<bool> windowed;
  for (const int64_t window : c.layer_window) windowed.push_back(window > 0);
  if (std::find(windowed.begin(), windowed.end(), false) != windowed.end())
    keys.set("attention.sliding_window_pattern", windowed);
}

bool is_key(const FamilyConfig& family, const std::string& name) {
  return std::any_of(family.json_keys.begin(), family.json_keys.end(),
                     [&](const JsonKey& key) { return key.name == name; });
}

}  // namespace

void GgufKeys::set(const std::string& key, GgufValue value) {
  const std::string name = prefix_ + key;
  const auto found = std::find_if(metadata_.begin(), metadata_.end(), [&](auto& entry) { return entry.first == name; });
  if (found != metadata_.end())
    found->second = std::move(value);
  else
    metadata_.emplace_back(name, std::move(value));
}

void GgufKeys::erase(const std::string& key) {
  std::erase_if(metadata_, [name = prefix_ + key](const auto& entry) { return entry.first == name; });
}

std::string to_config_json(const ModelConfig& c, const FamilyConfig& family) {
  Json root;
  bool rope = false;
  for (const JsonKey& key : family.json_keys) {
    rope |= key.name == "rope_theta";
    const auto* field = std::get_if<FieldPointer>(&key.meaning);
    const auto* only = std::get_if<OnlyValue>(&key.meaning);
    const Json value = field ? field_value(c, *field) : only ? Json(only->value) : value_of(c, key);
    if (!value.is_null()) root[key.name] = value;
  }
  if (c.eos_token_ids.empty()) root["eos_token_id"] = nullptr;  // absent, it would mean the family's usual one
  if (!c.bos_token_id) root["bos_token_id"] = nullptr;
  if (largest_window(c) == 0 && is_key(family, "sliding_window")) root["sliding_window"] = nullptr;  // likewise
  for (const char* key : {"rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor"}) root.erase(key);
  if (rope && c.uses_rope())
    add_rope(root, c, is_key(family, "rotary_pct") ? "rotary_pct" : "partial_rotary_factor", family.rotated_share);
  if (family.write_together) family.write_together(c, root);
  std::string text = root.dump(2) + "\n";
  const FamilyConfig* const families[] = {&family};
  const ModelConfig read = parse_config_json(text, c.source, families);
  check_same(c, read, {}, "config.json", "read_together and write_together");
  return text;
}

GgufMetadata to_config_gguf(const ModelConfig& c, const FamilyConfig& family) {
  GgufMetadata out = {{"general.architecture", family.gguf_name()}};
  GgufKeys keys(out, family.gguf_name());
  keys.set("vocab_size", c.vocab_size);
  keys.set("context_length", c.max_position_embeddings);
  keys.set("embedding_length", c.hidden_size);
  keys.set("block_count", c.num_hidden_layers);
  keys.set("feed_forward_length", c.intermediate_size);
  keys.set("attention.head_count", c.num_attention_heads);
  keys.set("attention.head_count_kv", c.num_key_value_heads);
  keys.set("attention.key_length", c.head_dim);
  keys.set("attention.value_length", c.head_dim);
  // A reader asks for the one that its architecture's norm has.
  keys.set("attention.layer_norm_epsilon", c.norm_eps);
  keys.set("attention.layer_norm_rms_epsilon", c.norm_eps);
  if (c.uses_rope()) add_rope(keys, c);
  if (largest_window(c) > 0) add_windows(keys, c);
  if (c.num_experts > 0) add_experts(keys, c);
  if (family.write_gguf) family.write_gguf(c, keys);
  return out;
}

std::vector<std::string> check_config_gguf(const ModelConfig& c, const FamilyConfig& family, const ModelConfig& read) {
  // Names and ids that are spelt otherwise there, and what matters to training alone.
  std::vector<std::string> ignored = {"architecture",      "model_type",   "dtype",
                                      "initializer_range", "bos_token_id", "eos_token_ids",
                                      "pad_token_id",      "norm_offset",  "router_aux_loss_coef"};
  const auto ignore = [&](const std::vector<std::string>& names) {
    ignored.insert(ignored.end(), names.begin(), names.end());
  };
  if (!c.uses_rope()) ignore({"rope_theta"});
  if (c.num_experts > 0) ignore({"intermediate_size"});  // of layers without experts, where there are any
  if (c.rope_scaling == RopeScaling::llama3)
    ignore(
        {"rope_scaling", "rope_factor", "rope_original_max_position", "rope_low_freq_factor", "rope_high_freq_factor"});
  const std::vector<std::string>& lost = family.lost_beyond_context;
  ignore(lost);
  check_same(c, read, ignored, "GGUF", "read_gguf and write_gguf");
  for (const NamedField& field : config_fields())
    if (std::find(lost.begin(), lost.end(), field.name) != lost.end() &&
        !same(field_value(c, field.field), field_value(read, field.field)))
      return {fmt::format("GGUF does not say how a {} goes beyond its trained context: the file is right within it",
                          c.model_type)};
  return {};
}

}  // namespace lathe
