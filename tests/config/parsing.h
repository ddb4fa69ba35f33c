// Configurations as texts and files, read as the program reads them.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "config/model_config.h"
#include "formats/gguf.h"
#include "llm/registry.h"
#include "tensor/errors.h"
#include "tests/formats/gguf_builder.h"
#include "tests/support.h"

namespace lathe::test {

// config.json with `changes`: a key whose value is "(absent)" goes.
inline ModelConfig parse(nlohmann::json root, const nlohmann::json& changes = nlohmann::json::object()) {
  root.update(changes);
  for (const auto& [key, value] : changes.items())
    if (value == "(absent)") root.erase(key);
  return parse_config_json(root.dump(), "config.json", family_configs());
}

// What is said of it, and the hint; empty where it is read.
inline std::string refusal(const nlohmann::json& root, const nlohmann::json& changes, std::string* hint = nullptr) {
  try {
    parse(root, changes);
    return {};
  } catch (const Error& e) {
    if (hint) *hint = e.hint();
    return e.what();
  }
}

inline ModelConfig read(const GgufBuilder& b) {
  const TemporaryDirectory folder;
  const auto path = folder.path() / "a.gguf";
  write_file(path, b.build());
  return read_config_gguf(*GgufFile::open(path.string()), family_configs());
}

}  // namespace lathe::test
