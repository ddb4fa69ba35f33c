// config.json, read by the key tables of config_families.cpp.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/config_families.h"
#include "config/model_config.h"
#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "formats/strict_json.h"

namespace lathe {
namespace {

using nlohmann::json;

void apply_key(ModelConfig& config, const JsonKey& key, const json& root) {
  const auto found = root.find(key.name);
  const bool absent = found == root.end() || found->is_null();
  check(!absent || !key.required, "config", "{}: the key {} is missing", config.source, key.name);
  if (found == root.end()) return;
  if (absent) {
    // Null ends a text nowhere, where a missing key means the family's usual ids.
    if (key.name == "bos_token_id") config.bos_token_id.reset();
    if (key.name == "eos_token_id") config.eos_token_ids.clear();
    // Likewise it means as many as query heads, where a missing key may mean another number.
    if (key.name == "num_key_value_heads") config.num_key_value_heads = 0;
    return;
  }
  const JsonValue value(*found, config.source, key.name);
  if (const auto* field = std::get_if<FieldPointer>(&key.meaning)) return set_field(config, *field, value);
  if (const auto* setter = std::get_if<Setter>(&key.meaning)) return (*setter)(config, value);
  if (const auto* only = std::get_if<OnlyValue>(&key.meaning))
    if (value.boolean() != only->value)
      value.fail(only->value ? "true: nothing else is supported" : "false: nothing else is supported");
}

// The settings inside rope_scaling (transformers 4) and rope_parameters (5).
const std::vector<JsonKey>& rope_keys() {
  using M = ModelConfig;
  static const std::vector<JsonKey> keys = {
      {"type", FieldPointer(&M::rope_scaling)},
      {"rope_type", FieldPointer(&M::rope_scaling)},
      {"rope_theta", FieldPointer(&M::rope_theta)},
      {"factor", FieldPointer(&M::rope_factor)},
      {"original_max_position_embeddings", FieldPointer(&M::rope_original_max_position)},
      {"low_freq_factor", FieldPointer(&M::rope_low_freq_factor)},
      {"high_freq_factor", FieldPointer(&M::rope_high_freq_factor)},
      {"beta_fast", FieldPointer(&M::rope_beta_fast)},
      {"beta_slow", FieldPointer(&M::rope_beta_slow)},
      {"truncate", FieldPointer(&M::rope_truncate)},
      {"attention_factor", FieldPointer(&M::rope_attention_factor)},
      {"mscale", FieldPointer(&M::rope_mscale)},
      {"mscale_all_dim", FieldPointer(&M::rope_mscale_all_dim)},
      {"short_factor", FieldPointer(&M::rope_short_factor)},
      {"long_factor", FieldPointer(&M::rope_long_factor)},
      {"partial_rotary_factor", ReadElsewhere{}},
  };
  return keys;
}

bool is_known(const std::vector<JsonKey>& keys, const std::string& name) {
  for (const JsonKey& key : keys)
    if (key.name == name) return true;
  return false;
}

// Null is as good as absent.
bool has(const json& settings, const char* key) {
  const auto found = settings.find(key);
  return found != settings.end() && !found->is_null();
}

// One object of rope settings, called `name`.
void read_rope_settings(ModelConfig& c, const json& settings, const std::string& name) {
  for (const auto& [key, value] : settings.items()) {
    const JsonValue at(value, c.source, name + "." + key);
    if (value.is_object()) at.fail("one value for all layers");
    if (!is_known(rope_keys(), key)) c.extra[at.key()] = value.dump();
  }
  for (const JsonKey& key : rope_keys()) {
    if (!has(settings, key.name.c_str())) continue;
    if (const auto* field = std::get_if<FieldPointer>(&key.meaning))
      set_field(c, *field, JsonValue(settings.at(key.name), c.source, name + "." + key.name));
  }
  if (c.rope_scaling == RopeScaling::none) {
    c.rope_factor = 1.0;
    c.rope_original_max_position = 0;
    return;
  }
  const bool llama3 = c.rope_scaling == RopeScaling::llama3;
  const bool extends = c.rope_scaling == RopeScaling::yarn || c.rope_scaling == RopeScaling::longrope;
  check(!llama3 || c.rope_original_max_position != 0, "config",
        "{}: the key {}.original_max_position_embeddings is missing", c.source, name);
  if (has(settings, "factor")) return;
  check(extends && c.rope_original_max_position > 0, "config", "{}: the key {}.factor is missing", c.source, name);
  c.rope_factor = static_cast<double>(c.max_position_embeddings) / static_cast<double>(c.rope_original_max_position);
}

// One object for the layers that see everything, and one for those with a window, which have a base and no scaling.
void read_rope_by_layer_type(ModelConfig& c, const json& settings, const std::string& name) {
  const auto object = [&](const char* type) {
    JsonValue value(settings.at(type), c.source, name + "." + type);
    if (!value.raw().is_object()) value.fail("an object or null");
    return value;
  };
  if (has(settings, "full_attention")) read_rope_settings(c, object("full_attention").raw(), name + ".full_attention");
  if (!has(settings, "sliding_attention")) return;
  const JsonValue local = object("sliding_attention");
  for (const char* key : {"rope_type", "type"})
    if (has(local.raw(), key) && local.raw().at(key) != "default") local.fail("the rope_type default");
  if (has(local.raw(), "rope_theta"))
    c.rope_local_theta = JsonValue(local.raw().at("rope_theta"), c.source, local.key() + ".rope_theta").number();
}

void read_rope(ModelConfig& c, const json& root) {
  std::optional<double> rotated_share;
  const auto read_share = [&](const json& object, const std::string& name) {
    for (const char* key : {"rotary_pct", "partial_rotary_factor"}) {
      if (!has(object, key)) continue;
      const JsonValue value(object.at(key), c.source, name + key);
      rotated_share = value.number();
      if (!(*rotated_share > 0.0 && *rotated_share <= 1.0)) value.fail("a number above 0 up to 1");
    }
  };
  read_share(root, "");
  if (has(root, "rope_theta")) c.rope_theta = JsonValue(root.at("rope_theta"), c.source, "rope_theta").number();
  if (has(root, "original_max_position_embeddings"))  // Phi-3's place for it
    c.rope_original_max_position =
        JsonValue(root.at("original_max_position_embeddings"), c.source, "original_max_position_embeddings").integer();
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    if (!has(root, name)) continue;
    const JsonValue settings(root.at(name), c.source, name);
    if (!settings.raw().is_object()) settings.fail("an object or null");
    if (c.rope_local_theta > 0.0 && (has(settings.raw(), "full_attention") || has(settings.raw(), "sliding_attention")))
      read_rope_by_layer_type(c, settings.raw(), name);
    else
      read_rope_settings(c, settings.raw(), name);
    read_share(settings.raw(), std::string(name) + ".");
    break;
  }
  if (!rotated_share || c.num_attention_heads < 1) return;
  const int64_t head_dim = c.head_dim > 0 ? c.head_dim : c.hidden_size / c.num_attention_heads;
  c.rotary_dim = static_cast<int64_t>(static_cast<double>(head_dim) * *rotated_share);
}

// The class name, empty where the file has none.
std::string architecture_of(const json& root, const std::string& source) {
  if (!has(root, "architectures")) return {};
  const JsonValue value(root.at("architectures"), source, "architectures");
  if (!value.raw().is_array() || value.raw().empty() || !value.raw()[0].is_string())
    value.fail("a list of class names");
  return value.raw()[0].get<std::string>();
}

// The class decides; a type that is another family's means that one of the two is wrong.
void check_names_agree(const ConfigFamily& family, const std::string& architecture, const std::string& model_type,
                       const std::string& source) {
  const auto& former = family.former_model_types;
  if (model_type.empty() || model_type == family.model_type ||
      std::find(former.begin(), former.end(), model_type) != former.end())
    return;
  throw Error(fmt::format("config: {}: architectures is {}, whose model_type is {}, but model_type is {}", source,
                          quote(architecture), family.model_type, quote(model_type)),
              "one of the two is of another model: compare the file with the published one");
}

}  // namespace

ModelConfig parse_config_json(const std::string& text, const std::string& source) {
  const json root = parse_strict_json(text, source);
  check(root.is_object(), "config", "{}: expected an object, found {}", source, root.type_name());
  const std::string architecture = architecture_of(root, source);
  const std::string model_type =
      has(root, "model_type") ? JsonValue(root.at("model_type"), source, "model_type").text() : std::string{};
  const ConfigFamily& family = find_config_family(architecture, model_type, source);
  check_names_agree(family, architecture, model_type, source);

  ModelConfig c = family.defaults;
  c.source = source;
  c.architecture = architecture.empty() ? family.architectures.front() : architecture;
  c.model_type = family.model_type;
  for (const JsonKey& key : family.json_keys) apply_key(c, key, root);
  if (is_known(family.json_keys, "rope_theta")) read_rope(c, root);
  if (family.read_together) family.read_together(c, root);
  for (const auto& [key, value] : root.items())
    if (!is_known(family.json_keys, key)) c.extra[key] = value.dump();
  complete_config(c);
  return c;
}

ModelConfig read_config_json(const std::string& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  constexpr size_t kLargest = size_t{16} << 20;
  check(bytes.size() <= kLargest, "config", "{} has {} bytes, expected at most {}", path, bytes.size(), kLargest);
  return parse_config_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace lathe
