// lathe models: the registered architectures.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "llm/family.h"
#include "llm/registry.h"

namespace lathe {
namespace {

// The names of a family's published models and their repositories.
nlohmann::ordered_json names_json(const Family& family) {
  nlohmann::ordered_json names = nlohmann::ordered_json::object();
  for (const PublishedModels& models : family.published)
    for (const PublishedName& named : names_of(models)) names[named.name] = named.repository;
  return names;
}

// In config.json, and the name in GGUF where no other family has it.
std::vector<std::string> types_of(const Family& family) {
  std::vector<std::string> types = family.model_types;
  const auto named = [&](const Family& f) {
    return std::find(f.model_types.begin(), f.model_types.end(), family.gguf_name()) != f.model_types.end();
  };
  if (std::none_of(families().begin(), families().end(), named)) types.push_back(family.gguf_name());
  return types;
}

}  // namespace

void add_models(CommandLine& app) {
  const auto json = std::make_shared<bool>(false);
  const Command command = app.add("models", "list the registered architectures");
  command.flag("--json", *json, "one JSON object");
  command.example("Example: lathe models");
  command.run([json] {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Family& f : families()) {
      const std::vector<std::string> types = types_of(f);
      list.push_back({{"family", f.name},
                      {"variants", f.variants},
                      {"capabilities", f.capabilities},
                      {"architectures", f.architectures},
                      {"model_types", types},
                      {"names", names_json(f)}});
      if (*json) continue;
      fmt::print("{}\n  variants:      {}\n  capabilities:  {}\n  architectures: {}\n  model types:   {}\n", f.name,
                 fmt::join(f.variants, ", "), fmt::join(f.capabilities, ", "), fmt::join(f.architectures, ", "),
                 fmt::join(types, ", "));
      for (const auto& [name, repository] : list.back()["names"].items())
        fmt::print("  {:28} {}\n", name, repository.get<std::string>());
    }
    if (*json) fmt::print("{}\n", nlohmann::ordered_json{{"models", list}}.dump());
  });
}

}  // namespace lathe
