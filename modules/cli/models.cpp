// lathe models: the registered architectures.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "config/published_models.h"
#include "llm/registry.h"

namespace lathe {
namespace {

// The names of a family's published models and their repositories.
nlohmann::ordered_json names_json(const ModelFamily& family) {
  nlohmann::ordered_json names = nlohmann::ordered_json::object();
  for (const PublishedModels& models : published_models())
    if (std::find(family.model_types.begin(), family.model_types.end(), models.model_type) != family.model_types.end())
      for (const PublishedName& named : names_of(models)) names[named.name] = named.repository;
  return names;
}

}  // namespace

void add_models(CommandLine& app) {
  const auto json = std::make_shared<bool>(false);
  const Command command = app.add("models", "list the registered architectures");
  command.flag("--json", *json, "one JSON object");
  command.example("Example: lathe models");
  command.run([json] {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const ModelFamily& f : model_families()) {
      list.push_back({{"family", f.name},
                      {"variants", f.variants},
                      {"capabilities", f.capabilities},
                      {"architectures", f.architectures},
                      {"model_types", f.model_types},
                      {"names", names_json(f)}});
      if (*json) continue;
      fmt::print("{}\n  variants:      {}\n  capabilities:  {}\n  architectures: {}\n  model types:   {}\n", f.name,
                 fmt::join(f.variants, ", "), fmt::join(f.capabilities, ", "), fmt::join(f.architectures, ", "),
                 fmt::join(f.model_types, ", "));
      for (const auto& [name, repository] : list.back()["names"].items())
        fmt::print("  {:28} {}\n", name, repository.get<std::string>());
    }
    if (*json) fmt::print("{}\n", nlohmann::ordered_json{{"models", list}}.dump());
  });
}

}  // namespace lathe
