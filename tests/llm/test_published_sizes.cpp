// configs/: every published size makes a model with the number of parameters that it is published with, which stands at
// the head of its file.
#include <filesystem>
#include <fstream>

#include "config/model_config.h"
#include "llm/family.h"
#include "llm/registry.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;

namespace {

// Of the first line like "# 7,298,617,344 parameters."; 0 where there is none.
int64_t published_parameters(const std::filesystem::path& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line) && line.starts_with("# ");) {
    const size_t end = line.find(" parameters");
    if (end == std::string::npos || line.find_first_not_of("0123456789,", 2) != end) continue;
    line.resize(end);
    std::erase_if(line, [](char c) { return c < '0' || c > '9'; });
    return std::stoll(line);
  }
  return 0;
}

}  // namespace

TEST_CASE("every published size has its published number of parameters") {
  size_t found = 0;
  for (const auto& folder : std::filesystem::directory_iterator(test::source_dir() / "configs"))
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (test::is_recipe(entry.path())) continue;
      const std::string family = folder.path().filename().string();
      INFO(family << "/" << entry.path().stem().string());
      const ModelConfig config = read_config_yaml(entry.path().string(), family_configs());
      CHECK(family_of(config).name == family);
      CHECK(config.eos_token_ids.size() == 1);
      CHECK(count_parameters(*family_of(config).make(config)) == published_parameters(entry.path()));
      ++found;
    }
  CHECK(found > 90);
}
