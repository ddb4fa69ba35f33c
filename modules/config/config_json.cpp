// config.json, read by the key table of its family.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "config/family_config.h"
#include "config/model_config.h"
#include "config/nearest_name.h"
#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "formats/strict_json.h"

namespace lathe {
namespace {

using nlohmann::json;

// Null is as good as absent, where the key's table does not say otherwise.
bool has(const json& settings, const std::string& key) {
  const auto found = settings.find(key);
  return found != settings.end() && !found->is_null();
}

bool is_known(const std::vector<JsonKey>& keys, const std::string& name) {
  return std::any_of(keys.begin(), keys.end(), [&](const JsonKey& key) { return key.name == name; });
}

// A required key may have another name.
void check_required(const ModelConfig& c, const std::vector<JsonKey>& keys, const json& root) {
  std::vector<std::string> unknown;
  for (const auto& [name, value] : root.items())
    if (!is_known(keys, name)) unknown.push_back(name);
  for (const JsonKey& key : keys) {
    const auto sets_it = [&](const JsonKey& other) { return other.meaning == key.meaning && has(root, other.name); };
    if (!key.required || has(root, key.name)) continue;
    if (std::holds_alternative<FieldPointer>(key.meaning) && std::any_of(keys.begin(), keys.end(), sets_it)) continue;
    const auto nearest = nearest_name(key.name, unknown);
    throw Error(fmt::format("config: {}: the key {} is missing", c.source, key.name),
                nearest ? fmt::format("the file has {}", quote(*nearest)) : "");
  }
}

void apply_key(ModelConfig& config, const JsonKey& key, const json& root) {
  const auto found = root.find(key.name);
  if (found == root.end()) return;
  if (found->is_null()) {
    if (key.null_sets) key.null_sets(config);
    return;
  }
  const JsonValue value(*found, config.source, key.name);
  if (const auto* field = std::get_if<FieldPointer>(&key.meaning)) return set_field(config, *field, value);
  if (const auto* setter = std::get_if<Setter>(&key.meaning)) return (*setter)(config, value);
  if (const auto* only = std::get_if<OnlyValue>(&key.meaning))
    if (value.boolean() != only->value)
      value.fail(only->value ? "true: nothing else is supported" : "false: nothing else is supported");
}

// Two names of one field: a file that has both must mean one value.
void check_names_of_one_field(const ModelConfig& c, const std::vector<JsonKey>& keys, const json& root) {
  for (const JsonKey& later : keys) {
    const auto* field = std::get_if<FieldPointer>(&later.meaning);
    if (!field || !has(root, later.name)) continue;
    for (const JsonKey* earlier = keys.data(); earlier != &later; ++earlier) {
      const auto* other = std::get_if<FieldPointer>(&earlier->meaning);
      if (other && *other == *field && has(root, earlier->name) && root.at(earlier->name) != root.at(later.name))
        JsonValue(root.at(earlier->name), c.source, earlier->name)
            .fail(fmt::format("{} as {} has it", root.at(later.name).dump(), later.name),
                  "two names of one setting: delete the wrong one");
    }
  }
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

// One object of rope settings, called `name`.
void read_rope_settings(ModelConfig& c, const json& settings, const std::string& name) {
  for (const auto& [key, value] : settings.items()) {
    const JsonValue at(value, c.source, name + "." + key);
    if (value.is_object()) at.fail("one value for all layers");
    if (!is_known(rope_keys(), key)) keep_unknown(c, name + ".", key, settings, names_of(rope_keys()));
  }
  for (const JsonKey& key : rope_keys()) {
    if (!has(settings, key.name)) continue;
    if (const auto* field = std::get_if<FieldPointer>(&key.meaning))
      set_field(c, *field, JsonValue(settings.at(key.name), c.source, name + "." + key.name));
  }
  if (c.rope_scaling == RopeScaling::none) {
    c.rope_factor = 1.0;
    c.rope_original_max_position = 0;
    return;
  }
  if (c.rope_scaling == RopeScaling::dynamic && has(settings, "original_max_position_embeddings") &&
      c.rope_original_max_position != c.max_position_embeddings)
    JsonValue(settings.at("original_max_position_embeddings"), c.source, name + ".original_max_position_embeddings")
        .fail(
            fmt::format("max_position_embeddings {}, behind which dynamic scaling begins", c.max_position_embeddings));
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
  for (const char* type : {"full_attention", "sliding_attention"})
    if (has(settings, type) && has(settings.at(type), "partial_rotary_factor") &&
        settings.at(type).at("partial_rotary_factor") != 1)
      object(type).fail("the partial_rotary_factor 1");
  for (const char* key : {"rope_type", "type"})
    if (has(local.raw(), key) && local.raw().at(key) != "default") local.fail("the rope_type default");
  if (has(local.raw(), "rope_theta"))
    c.rope_local_theta = JsonValue(local.raw().at("rope_theta"), c.source, local.key() + ".rope_theta").number();
}

// Beside rope_scaling, which decides, rope_parameters may say the same or that nothing is scaled.
void check_rope_blocks_agree(const ModelConfig& c, const json& parameters) {
  for (const JsonKey& key : rope_keys()) {
    const auto* field = std::get_if<FieldPointer>(&key.meaning);
    if (!field || !has(parameters, key.name)) continue;
    const JsonValue value(parameters.at(key.name), c.source, "rope_parameters." + key.name);
    ModelConfig said = c;
    set_field(said, *field, value);
    const bool unscaled = *field == FieldPointer(&ModelConfig::rope_scaling) && said.rope_scaling == RopeScaling::none;
    if (!unscaled && !equal_fields(said, c, *field))
      value.fail("what follows from rope_scaling, which decides where a file has both",
                 "delete rope_scaling or rope_parameters");
  }
}

// transformers 4 writes rope_scaling, 5 writes rope_parameters; where there are both, the former decides.
void read_rope_blocks(ModelConfig& c, const json& root) {
  const auto block = [&](const char* name) -> const json* {
    if (!has(root, name)) return nullptr;
    const JsonValue value(root.at(name), c.source, name);
    if (!value.raw().is_object()) value.fail("an object or null");
    return value.raw().empty() ? nullptr : &value.raw();
  };
  const auto by_layer_type = [](const json& b) { return has(b, "full_attention") || has(b, "sliding_attention"); };
  const json *scaling = block("rope_scaling"), *parameters = block("rope_parameters");
  if (c.rope_local_theta > 0.0 && parameters) {  // rope_scaling is of the layers that see everything
    if (!by_layer_type(*parameters))
      JsonValue(*parameters, c.source, "rope_parameters").fail("full_attention and sliding_attention in it");
    read_rope_by_layer_type(c, *parameters, "rope_parameters");
    if (scaling) read_rope_settings(c, *scaling, "rope_scaling");
    return;
  }
  if (scaling && c.rope_local_theta > 0.0 && by_layer_type(*scaling))
    return read_rope_by_layer_type(c, *scaling, "rope_scaling");
  if (scaling) read_rope_settings(c, *scaling, "rope_scaling");
  if (scaling && parameters)
    check_rope_blocks_agree(c, *parameters);
  else if (parameters)
    read_rope_settings(c, *parameters, "rope_parameters");
}

// The rotated part of a head, under one of its names in one of its places; all of them must agree, and families whose
// table does not know the name rotate whole heads.
void read_rotated_share(ModelConfig& c, const json& root, const FamilyConfig& family) {
  std::optional<double> share;
  const auto read = [&](const json& object, const std::string& place, const std::string& name) {
    const bool known = is_known(family.json_keys, name);
    if (!object.is_object() || !has(object, name) || (!known && name == "rotary_pct")) return;
    const JsonValue value(object.at(name), c.source, place + name);
    if (!(value.number() > 0.0 && value.number() <= 1.0)) value.fail("a number above 0 up to 1");
    if (!known && value.number() != 1.0) value.fail(fmt::format("1: {} rotates whole heads", c.model_type));
    if (share && *share != value.number()) value.fail(fmt::format("{} as the rest of the file has it", *share));
    share = value.number();
  };
  read(root, "", "rotary_pct");
  // A family that reads rotary_pct does not read the other name beside it.
  if (!share && is_known(family.json_keys, "rotary_pct") && has(root, "partial_rotary_factor"))
    share = family.rotated_share;
  read(root, "", "partial_rotary_factor");
  // What stands in rope_parameters alone is lost beside a rope_scaling; {} says nothing.
  if (has(root, "rope_scaling") && !root.at("rope_scaling").empty()) {
    read(root.at("rope_scaling"), "rope_scaling.", "partial_rotary_factor");
    if (!share) share = family.rotated_share;
  }
  if (has(root, "rope_parameters")) read(root.at("rope_parameters"), "rope_parameters.", "partial_rotary_factor");
  if (!share) share = family.rotated_share;
  if (*share == 1.0 || c.num_attention_heads < 1) return;
  const int64_t head_dim = c.head_dim > 0 ? c.head_dim : c.hidden_size / c.num_attention_heads;
  c.rotary_dim = static_cast<int64_t>(static_cast<double>(head_dim) * *share);
}

void read_rope(ModelConfig& c, const json& root, const FamilyConfig& family) {
  if (has(root, "rope_theta")) {
    const JsonValue theta(root.at("rope_theta"), c.source, "rope_theta");
    if (is_known(family.json_keys, "rotary_emb_base") && theta.number() != c.rope_theta)
      theta.fail(fmt::format("{} as rotary_emb_base, which {} reads in its place", c.rope_theta, c.model_type));
    c.rope_theta = theta.number();
  }
  const int64_t outside = [&]() -> int64_t {  // Phi-3's place for it
    if (!has(root, "original_max_position_embeddings")) return 0;
    return JsonValue(root.at("original_max_position_embeddings"), c.source, "original_max_position_embeddings")
        .integer();
  }();
  if (outside != 0) c.rope_original_max_position = outside;
  read_rope_blocks(c, root);
  check(outside == 0 || c.rope_scaling == RopeScaling::none || c.rope_original_max_position == outside, "config",
        "{}: original_max_position_embeddings is {}, but {} beside the rope scaling", c.source, outside,
        c.rope_original_max_position);
  read_rotated_share(c, root, family);
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
void check_names_agree(const FamilyConfig& family, const std::string& architecture, const std::string& model_type,
                       const std::string& source) {
  const auto& types = family.model_types;
  if (model_type.empty() || std::find(types.begin(), types.end(), model_type) != types.end()) return;
  throw Error(fmt::format("config: {}: architectures is {}, whose model_type is {}, but model_type is {}", source,
                          quote(architecture), family.model_type(), quote(model_type)),
              "one of the two is of another model: compare the file with the published one");
}

}  // namespace

void keep_unknown(ModelConfig& c, const std::string& place, const std::string& key, const json& object,
                  std::vector<std::string> known) {
  // Of other models, of tokenizers and of training: near to a known name, and no misspelling of it.
  static const std::set<std::string> other = {
      "bos_token",    "eos_token",    "pad_token",      "cls_token_id", "mask_token_id",
      "sep_token_id", "unk_token_id", "attention_type", "norm_type",    "max_length",
      "min_length",   "seq_len",      "quantization",   "vocab_file",   "_sliding_window_pattern"};
  c.extra[place + key] = object.at(key).dump();
  std::erase_if(known, [&](const std::string& name) { return object.contains(name); });
  if (other.contains(key)) return;
  if (const auto nearest = nearest_name(key, known)) c.misspelt[place + key] = *nearest;
}

std::vector<std::string> names_of(const std::vector<JsonKey>& keys) {
  std::vector<std::string> names;
  for (const JsonKey& key : keys) names.push_back(key.name);
  return names;
}

ModelConfig parse_config_json(const std::string& text, const std::string& source, FamilyConfigs families) {
  const json root = parse_strict_json(text, source);
  check(root.is_object(), "config", "{}: expected an object, found {}", source, root.type_name());
  const std::string architecture = architecture_of(root, source);
  const std::string model_type =
      has(root, "model_type") ? JsonValue(root.at("model_type"), source, "model_type").text() : std::string{};
  const FamilyConfig& family = find_family(families, architecture, model_type, source);
  check_names_agree(family, architecture, model_type, source);

  ModelConfig c = family.defaults;
  c.source = source;
  c.architecture = architecture.empty() ? family.architectures.front() : architecture;
  c.model_type = family.model_type();
  check_required(c, family.json_keys, root);
  for (const JsonKey& key : family.json_keys) apply_key(c, key, root);
  check_names_of_one_field(c, family.json_keys, root);
  if (is_known(family.json_keys, "rope_theta")) read_rope(c, root, family);
  if (family.read_together) family.read_together(c, root);
  for (const auto& [key, value] : root.items())
    if (!is_known(family.json_keys, key)) keep_unknown(c, "", key, root, names_of(family.json_keys));
  complete_config(c, family);
  return c;
}

ModelConfig read_config_json(const std::string& path, FamilyConfigs families) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  constexpr size_t kLargest = size_t{16} << 20;
  check(bytes.size() <= kLargest, "config", "{} has {} bytes, expected at most {}", path, bytes.size(), kLargest);
  return parse_config_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path, families);
}

}  // namespace lathe
