#include "config/option_file.h"

#include <algorithm>
#include <set>

#include "config/nearest_name.h"
#include "config/yaml_value.h"

namespace lathe {

std::vector<std::pair<std::string, std::string>> read_option_file(const std::string& path,
                                                                  const std::vector<std::string>& known) {
  const YAML::Node root = parse_yaml_file(path);
  check(root.IsMap(), "config", "{}: expected keys and values, one a line", path);
  std::vector<std::pair<std::string, std::string>> options;
  std::set<std::string> seen;
  for (const auto& entry : root) {
    const std::string where = fmt::format("{}:{}", path, entry.first.Mark().line + 1);
    check(entry.first.IsScalar(), "config", "{}: a key is no plain name", where);
    const std::string& key = entry.first.Scalar();
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      const auto nearest = nearest_name(key, known);
      throw Error(
          fmt::format("config: {}: the key {} is not known", where, quote(key)),
          nearest ? fmt::format("did you mean {}?", *nearest) : "the keys are the options without their dashes");
    }
    check(seen.insert(key).second, "config", "{}: the key {} appears twice", where, quote(key));
    for (const std::string& value : YamlValue(entry.second, path, key).texts()) options.emplace_back(key, value);
  }
  return options;
}

}  // namespace lathe
