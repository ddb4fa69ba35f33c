// lathe inspect: what a model or a config is made of, without reading the weights.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/describe.h"
#include "cli/model_options.h"
#include "config/config_values.h"
#include "config/model_config.h"
#include "generate/inference_plan.h"
#include "llm/family.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

// The model's names for a checkpoint tensor; what is skipped by rule says so.
std::string mapped_names(const WeightMapping& mapping, const std::string& stored) {
  std::vector<int64_t> numbers;
  for (const std::string& pattern : mapping.skipped)
    if (match_name(pattern, stored, &numbers)) return "(skipped)";
  for (const MappingRule& rule : mapping.rules) {
    for (const std::string& source : rule.sources) {
      if (!match_name(source, stored, &numbers)) continue;
      std::string names;
      for (const std::string& target : rule.targets) names += (names.empty() ? "" : " ") + fill_name(target, numbers);
      return names;
    }
  }
  return stored;
}

Json inspect_tensors(const Checkpoint& checkpoint, const WeightMapping& mapping) {
  Json list = Json::array();
  for (const StoredTensor& t : checkpoint.tensors)
    list.push_back(
        {{"name", t.name}, {"dtype", t.type_name}, {"shape", t.shape}, {"parameter", mapped_names(mapping, t.name)}});
  return list;
}

// What `open` gives takes; or, where it throws, why there is nothing to run.
template <class Open>
Json requirements(const Open& open) {
  try {
    return requirements_json(open());
  } catch (const Error& e) {
    return e.what();
  }
}

Json inspect_checkpoint(const std::string& path) {
  const Checkpoint checkpoint = open_checkpoint(path, family_configs());
  const Family& family = family_of(*checkpoint.config);
  const auto model = family.make(*checkpoint.config);
  const Json required = requirements([&] { return open_model(path); });
  Json json = {{"source", checkpoint.path},
               {"format", checkpoint.format == CheckpointFormat::gguf ? "GGUF" : "Hugging Face"},
               {"supported", required.is_string() ? "no: " + required.get<std::string>() : "yes"},
               {"config", config_values(*checkpoint.config)},
               {"parameters", parameters_json(*model)},
               {"stored_bytes", checkpoint.stored_bytes()}};
  if (const Json unknown = unknown_keys(*checkpoint.config, family); !unknown.empty()) json["unknown_keys"] = unknown;
  json["memory"] = memory_json(model->sizes);
  if (required.is_object()) json["requirements"] = required;
  try {
    const auto tokenizer = load_tokenizer(checkpoint);
    json["tokenizer"] = {{"kind", tokenizer->kind()},
                         {"vocab_size", tokenizer->vocab_size()},
                         {"chat_template", tokenizer->chat_template().has_value()}};
  } catch (const Error& e) {
    json["tokenizer"] = e.what();
  }
  json["tensors"] = inspect_tensors(checkpoint, family.weight_mapping(*checkpoint.config, checkpoint.format));
  return json;
}

Json inspect_config(const std::string& path) {
  const std::shared_ptr<const ModelConfig> config = read_config(path, family_configs());
  const Family& family = family_of(*config);
  const auto model = family.make(*config);
  const int64_t count = count_parameters(*model);
  Json json = {{"source", path}, {"config", config_values(*config)}, {"parameters", parameters_json(*model)}};
  if (const Json unknown = unknown_keys(*config, family); !unknown.empty()) json["unknown_keys"] = unknown;
  json["weight_bytes"] = {{"f32", 4 * count}, {"bf16", 2 * count}};
  json["memory"] = memory_json(model->sizes);
  json["requirements"] = requirements([&] { return describe_config(config, {}); });
  return json;
}

void print_text(const Json& json) {
  for (const auto& [key, value] : json.items()) {
    if (key == "tensors") {
      fmt::print("tensors ({}):\n", value.size());
      for (const Json& t : value)
        fmt::print("  {:44} {:5} {:16} {}\n", t["name"].get<std::string>(), t["dtype"].get<std::string>(),
                   t["shape"].dump(), t["parameter"].get<std::string>());
    } else if (key == "unknown_keys") {
      fmt::print("unknown keys of config.json:\n");
      for (const auto& [name, nearest] : value.items())
        fmt::print("  {}{}\n", name,
                   nearest.is_null() ? "" : fmt::format(" (did you mean {}?)", nearest.get<std::string>()));
    } else if (value.is_object()) {
      fmt::print("{}:\n", key);
      for (const auto& [name, entry] : value.items())
        fmt::print("  {:26} {}\n", name, entry.is_string() ? entry.get<std::string>() : entry.dump());
    } else {
      fmt::print("{:28} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

}  // namespace

void add_inspect(CommandLine& app) {
  struct Options {
    std::string model, config;
    bool json = false;
  };
  const auto o = std::make_shared<Options>();
  const Command command = app.add("inspect", "what a model or a config is made of");
  const Option model = command.option("--model", o->model, "folder, file, or name of a model");
  const Option config = command.option("--config", o->config, "a YAML file under configs/, or a config.json");
  model.excludes(config);
  command.flag("--json", o->json, "one JSON object");
  command.example("Example: lathe inspect --config configs/llama/3.2-1b.yaml");
  command.run([o] {
    if (o->model.empty() && o->config.empty()) throw UsageError("expected --model or --config, found neither");
    const Json json = o->config.empty() ? inspect_checkpoint(o->model) : inspect_config(o->config);
    if (o->json)
      fmt::print("{}\n", json.dump());
    else
      print_text(json);
  });
}

}  // namespace lathe
