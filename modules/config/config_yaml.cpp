// configs/<family>/<size>.yaml: the fields of ModelConfig by name, nothing else; a misspelt name must not be ignored.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "config/config_export.h"
#include "config/family_config.h"
#include "config/model_config.h"
#include "config/nearest_name.h"
#include "config/yaml_value.h"
#include "formats/mapped_file.h"
#include "formats/quote.h"

namespace lathe {

YAML::Node parse_yaml_file(const std::string& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  constexpr size_t kLargest = size_t{1} << 20;
  check(bytes.size() <= kLargest, "config", "{} has {} bytes, expected at most {}", path, bytes.size(), kLargest);
  try {
    return YAML::Load(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  } catch (const YAML::Exception& e) {
    throw Error(fmt::format("config: {}:{}: {}", path, e.mark.line + 1, e.msg));
  }
}

namespace {

// The field that a key of config.json sets: for a key with a function of its own, found by trying values.
std::optional<std::string> field_of(const JsonKey& key) {
  const ModelConfig before;
  for (const nlohmann::json& value : {nlohmann::json(3), nlohmann::json(true), nlohmann::json("gelu")}) {
    ModelConfig after;
    try {
      const JsonValue probe(value, after.source, key.name);
      if (const auto* field = std::get_if<FieldPointer>(&key.meaning)) set_field(after, *field, probe);
      if (const auto* setter = std::get_if<Setter>(&key.meaning)) (*setter)(after, probe);
    } catch (const Error&) {
      continue;
    }
    for (const NamedField& field : config_fields())
      if (!equal_fields(before, after, field.field)) return field.name;
  }
  return std::nullopt;
}

std::string hint_for(const std::string& key, const FamilyConfig& family, const std::vector<std::string>& names) {
  const auto known = std::find_if(family.json_keys.begin(), family.json_keys.end(),
                                  [&](const JsonKey& json_key) { return json_key.name == key; });
  if (known != family.json_keys.end()) {
    const auto field = field_of(*known);
    return fmt::format("this is config.json's name{}", field ? fmt::format(": here it is {}", *field) : "");
  }
  const auto nearest = nearest_name(key, names);
  return nearest ? fmt::format("did you mean {}?", *nearest) : "";
}

const NamedField& find_field(const std::string& key, const FamilyConfig& family, const std::string& where) {
  std::vector<std::string> names;
  for (const NamedField& field : config_fields()) {
    if (field.name == key) return field;
    names.push_back(field.name);
  }
  throw Error(fmt::format("config: {}: the key {} is not known", where, quote(key)), hint_for(key, family, names));
}

}  // namespace

ModelConfig read_config_yaml(const std::string& path, FamilyConfigs families) {
  return read_config_yaml(parse_yaml_file(path), path, families);
}

ModelConfig read_config_yaml(const YAML::Node& root, const std::string& path, FamilyConfigs families) {
  check(root.IsMap(), "config", "{}: expected keys and values, one a line", path);
  std::string architecture;
  if (const YAML::Node node = root["architecture"]; node && node.IsScalar()) architecture = node.Scalar();
  check(!architecture.empty(), "config", "{}: the key architecture is missing", path);

  const FamilyConfig& family = find_family(families, architecture, {}, path);
  ModelConfig c = family.defaults;
  c.source = path;
  std::set<std::string> seen;
  for (const auto& entry : root) {
    const std::string where = fmt::format("{}:{}", path, entry.first.Mark().line + 1);
    check(entry.first.IsScalar(), "config", "{}: a key is no plain name", where);
    const std::string& key = entry.first.Scalar();
    check(seen.insert(key).second, "config", "{}: the key {} appears twice", where, quote(key));
    const NamedField& field = find_field(key, family, where);
    if (!entry.second.IsNull()) set_field(c, field.field, YamlValue(entry.second, path, key));
  }
  c.model_type = family.model_type();
  complete_config(c, family);
  to_config_json(c, family);  // throws where no config.json of the family would give these values
  return c;
}

}  // namespace lathe
