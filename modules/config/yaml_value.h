// YAML files read strictly: values that know where they stand. For the sources that read one; yaml-cpp stays out of
// other headers.
#pragma once
#include <yaml-cpp/yaml.h>

#include <string>
#include <vector>

#include "config/model_config.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {

// Throws Error naming the file, and the line of what is no YAML. At most 1 MiB is read.
YAML::Node parse_yaml_file(const std::string& path);
// As read_config_yaml (model_config.h), of a map that stands in another file.
ModelConfig read_config_yaml(const YAML::Node& root, const std::string& source, FamilyConfigs families);

// A value of a file, for messages that name its line.
class YamlValue {
 public:
  YamlValue(const YAML::Node& node, std::string source, std::string key)
      : node_(node), source_(std::move(source)), key_(std::move(key)) {}

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
  // One string, or a list of them.
  std::vector<std::string> texts() const {
    return node_.IsScalar() ? std::vector{text()} : list<std::string>("a string or a list of strings");
  }
  bool boolean() const { return as<bool>("true or false"); }
  const YAML::Node& node() const { return node_; }
  std::string where() const {
    return node_.Mark().line < 0 ? source_ : fmt::format("{}:{}", source_, node_.Mark().line + 1);
  }
  const std::string& key() const { return key_; }
  [[noreturn]] void fail(const std::string& expected) const {
    const std::string found = node_.IsScalar() ? quote(node_.Scalar()) : node_.IsSequence() ? "a list" : "a map";
    throw Error(fmt::format("config: {}: {} is {}, expected {}", where(), key_, found, expected));
  }

 private:
  YAML::Node node_;
  std::string source_, key_;
};

}  // namespace lathe
