// lathe models: the registered architectures.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "llm/registry.h"

namespace lathe {

void add_models(CLI::App& app) {
  const auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("models", "list the registered architectures");
  command->add_flag("--json", *json, "one JSON object");
  command->footer("Example: lathe models");
  command->callback([json] {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const ModelFamily& f : model_families()) {
      list.push_back({{"family", f.name},
                      {"variants", f.variants},
                      {"capabilities", f.capabilities},
                      {"architectures", f.architectures},
                      {"model_types", f.model_types}});
      if (!*json)
        fmt::print("{}\n  variants:      {}\n  capabilities:  {}\n  architectures: {}\n  model types:   {}\n", f.name,
                   fmt::join(f.variants, ", "), fmt::join(f.capabilities, ", "), fmt::join(f.architectures, ", "),
                   fmt::join(f.model_types, ", "));
    }
    if (*json) fmt::print("{}\n", nlohmann::ordered_json{{"models", list}}.dump());
  });
}

}  // namespace lathe
