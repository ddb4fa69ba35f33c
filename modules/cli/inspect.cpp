// lathe inspect: what a model or a config is made of, without reading the weights.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/model_options.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

// Parameters summed by what they belong to: "self_attn", "mlp", norms, tables.
std::string part_of(const std::string& name) {
  for (const char* part : {"embed_tokens", "embed_positions", "self_attn", "mlp", "lm_head"})
    if (name.find(part) != std::string::npos) return part;
  return "norms";
}

Json parameters_by_part(CausalLM& model) {
  std::map<std::string, int64_t> parts;
  for (const NamedParameter& p : named_parameters(model)) parts[part_of(p.name)] += p.parameter->shape.elements();
  Json json = {{"total", count_parameters(model)}};
  for (const auto& [part, count] : parts) json[part] = count;
  return json;
}

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

int64_t cache_bytes_per_token(const ModelConfig& config, DType dtype) {
  size_t bytes = 0;
  for (const LayerGroup& group : layer_groups(config)) bytes += KVCache::page_bytes(config, group, dtype);
  return static_cast<int64_t>(bytes) / kPageTokens;
}

Json config_json(const ModelConfig& c) {
  Json json = {{"architecture", c.architecture},
               {"model_type", c.model_type},
               {"vocab_size", c.vocab_size},
               {"hidden_size", c.hidden_size},
               {"intermediate_size", c.intermediate_size},
               {"num_hidden_layers", c.num_hidden_layers},
               {"num_attention_heads", c.num_attention_heads},
               {"num_key_value_heads", c.num_key_value_heads},
               {"head_dim", c.head_dim},
               {"max_position_embeddings", c.max_position_embeddings},
               {"context_limit", c.context_limit()},
               {"tie_word_embeddings", c.tie_word_embeddings},
               {"hidden_act", c.hidden_act},
               {"norm_eps", c.norm_eps}};
  if (c.uses_rope()) json["rope_theta"] = c.rope_theta;
  return json;
}

Json inspect_tensors(const Checkpoint& checkpoint, const WeightMapping& mapping) {
  Json list = Json::array();
  for (const StoredTensor& t : checkpoint.tensors)
    list.push_back(
        {{"name", t.name}, {"dtype", t.type_name}, {"shape", t.shape}, {"parameter", mapped_names(mapping, t.name)}});
  return list;
}

std::string unsupported(const Checkpoint& checkpoint) {
  for (const StoredTensor& t : checkpoint.tensors)
    if (!t.dtype) return fmt::format("no: tensor {} has type {}, which is not read", t.name, t.type_name);
  return "yes";
}

Json inspect_checkpoint(const std::string& path) {
  const Checkpoint checkpoint = open_checkpoint(path);
  const ModelFamily& family = family_of(checkpoint.config);
  const auto model = family.make(checkpoint.config);
  Json json = {{"source", checkpoint.path},
               {"format", checkpoint.format == CheckpointFormat::gguf ? "GGUF" : "Hugging Face"},
               {"supported", unsupported(checkpoint)},
               {"config", config_json(checkpoint.config)},
               {"parameters", parameters_by_part(*model)},
               {"stored_bytes", checkpoint.stored_bytes()}};
  json["cache_bytes_per_token"] = {{"f32", cache_bytes_per_token(checkpoint.config, DType::f32)},
                                   {"f16", cache_bytes_per_token(checkpoint.config, DType::f16)}};
  try {
    const auto tokenizer = load_tokenizer(checkpoint);
    json["tokenizer"] = {{"kind", tokenizer->kind()},
                         {"vocab_size", tokenizer->vocab_size()},
                         {"chat_template", tokenizer->chat_template().has_value()}};
  } catch (const Error& e) {
    json["tokenizer"] = e.what();
  }
  json["tensors"] = inspect_tensors(checkpoint, family.weight_mapping(checkpoint.config, checkpoint.format));
  return json;
}

Json inspect_config(const std::string& path) {
  const ModelConfig config = path.ends_with(".json") ? read_config_json(path) : read_config_yaml(path);
  const auto model = family_of(config).make(config);
  const int64_t count = count_parameters(*model);
  return {{"source", path},
          {"config", config_json(config)},
          {"parameters", parameters_by_part(*model)},
          {"weight_bytes", {{"f32", 4 * count}, {"bf16", 2 * count}}},
          {"cache_bytes_per_token",
           {{"f32", cache_bytes_per_token(config, DType::f32)}, {"f16", cache_bytes_per_token(config, DType::f16)}}}};
}

void print_text(const Json& json) {
  for (const auto& [key, value] : json.items()) {
    if (key == "tensors") {
      fmt::print("tensors ({}):\n", value.size());
      for (const Json& t : value)
        fmt::print("  {:44} {:5} {:16} {}\n", t["name"].get<std::string>(), t["dtype"].get<std::string>(),
                   t["shape"].dump(), t["parameter"].get<std::string>());
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

void add_inspect(CLI::App& app) {
  struct Options {
    std::string model, config;
    bool json = false;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("inspect", "what a model or a config is made of");
  auto* model = command->add_option("--model", o->model, "folder, file, or name of a model");
  auto* config = command->add_option("--config", o->config, "a YAML file under configs/, or a config.json");
  model->excludes(config);
  command->add_flag("--json", o->json, "one JSON object");
  command->footer("Example: lathe inspect --config configs/llama/3.2-1b.yaml");
  command->callback([o] {
    if (o->model.empty() && o->config.empty()) throw UsageError("expected --model or --config, found neither");
    const Json json = o->config.empty() ? inspect_checkpoint(o->model) : inspect_config(o->config);
    if (o->json)
      fmt::print("{}\n", json.dump());
    else
      print_text(json);
  });
}

}  // namespace lathe
