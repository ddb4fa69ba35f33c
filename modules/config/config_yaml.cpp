// configs/<family>/<size>.yaml: the fields of ModelConfig by name, nothing else; a misspelt name must not be ignored.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "config/config_export.h"
#include "config/family_config.h"
#include "config/model_config.h"
#include "config/nearest_name.h"
#include "formats/mapped_file.h"
#include "formats/quote.h"

namespace lathe {
namespace {

// A value of the file, for messages that name its line.
class YamlValue {
 public:
  YamlValue(const YAML::Node& node, const std::string& source, const std::string& key)
      : node_(node), source_(source), key_(key) {}

  template <class T>
  T as(const char* expected) const {
    T value{};
    if (!node_.IsScalar() || !YAML::convert<T>::decode(node_, value)) fail(expected);
    return value;
  }
  int64_t integer() const { return as<int64_t>("an integer"); }
  double number() const { return as<double>("a number"); }
  std::string text() const { return as<std::string>("a string"); }
  template <class T>
  std::vector<T> list(const char* expected) const {
    std::vector<T> values;
    if (!node_.IsSequence()) fail(expected);
    for (const YAML::Node& item : node_) {
      T value{};
      if (!item.IsScalar() || !YAML::convert<T>::decode(item, value)) fail(expected);
      values.push_back(value);
    }
    return values;
  }
  std::vector<int64_t> integers() const { return list<int64_t>("a list of integers"); }
  std::vector<double> numbers() const { return list<double>("a list of numbers"); }
  bool boolean() const { return as<bool>("true or false"); }
  std::string where() const { return fmt::format("{}:{}", source_, node_.Mark().line + 1); }
  const std::string& key() const { return key_; }

 private:
  [[noreturn]] void fail(const char* expected) const {
    const std::string found = node_.IsScalar() ? quote(node_.Scalar()) : node_.IsSequence() ? "a list" : "a map";
    throw Error(fmt::format("config: {}: {} is {}, expected {}", where(), key_, found, expected));
  }
  const YAML::Node& node_;
  const std::string& source_;
  const std::string& key_;
};

YAML::Node parse_file(const std::string& path) {
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
  const YAML::Node root = parse_file(path);
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
