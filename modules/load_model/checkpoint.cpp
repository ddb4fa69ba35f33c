// See checkpoint.h.
#include "load_model/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "config/model_config.h"
#include "formats/content_hash.h"
#include "formats/json_node.h"
#include "formats/pytorch_file.h"
#include "formats/safetensors.h"
#include "formats/strict_json.h"
#include "load_model/gptq_awq.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// The forms of weights beside a config.json, in the order of preference; behind each form that of its index.
struct WeightForm {
  const char* name;    // of the file in a folder
  const char* ending;  // of any such file
  std::vector<StoredTensor> (*read)(const std::string& path);
};
constexpr WeightForm kWeightForms[] = {
    {"model.safetensors", ".safetensors", [](const std::string& path) { return read_safetensors(path); }},
    {"model.safetensors.index.json", ".safetensors.index.json", read_sharded_safetensors},
    {"pytorch_model.bin", ".bin", read_pytorch_file},
    {"pytorch_model.bin.index.json", ".bin.index.json", read_sharded_pytorch_file},
};

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

GenerationDefaults generation_json(const fs::path& folder) {
  const std::string path = (folder / "generation_config.json").string();
  if (!is_file(path)) return {};
  const nlohmann::json root = read_strict_json(path);
  const JsonNode settings(root, path, ": ");
  if (!root.is_object()) settings.expected("an object");
  const auto number = [&](const char* key) {
    return settings.has(key) ? std::optional(settings.at(key).number()) : std::nullopt;
  };
  GenerationDefaults d;
  d.temperature = number("temperature");
  d.top_p = number("top_p");
  d.min_p = number("min_p");
  d.repetition_penalty = number("repetition_penalty");
  if (settings.has("top_k")) d.top_k = settings.at("top_k").integer();
  if (settings.has("do_sample")) d.do_sample = settings.at("do_sample").boolean();
  if (!settings.has("eos_token_id")) return d;
  const JsonNode eos = settings.at("eos_token_id");
  const auto add = [&](const JsonNode& id) { d.eos_token_ids.push_back(id.integer(INT32_MIN, INT32_MAX)); };
  if (!eos.value().is_array()) add(eos);
  for (size_t i = 0; eos.value().is_array() && i < eos.size(); ++i) add(eos.at(i));
  return d;
}

GenerationDefaults generation_gguf(const GgufFile& file, const ModelConfig& config) {
  GenerationDefaults d;
  d.temperature = file.get<double>("general.sampling.temp");
  d.top_k = file.get<int64_t>("general.sampling.top_k");
  d.top_p = file.get<double>("general.sampling.top_p");
  d.min_p = file.get<double>("general.sampling.min_p");
  d.repetition_penalty = file.get<double>("general.sampling.penalty_repeat");
  d.eos_token_ids = config.eos_token_ids;
  return d;
}

Checkpoint open_gguf(const std::string& path, FamilyConfigs families) {
  Checkpoint c;
  c.format = CheckpointFormat::gguf;
  c.path = path;
  c.folder = fs::path(path).parent_path().string();
  c.gguf = GgufFile::open(path);
  c.config = std::make_shared<ModelConfig>(read_config_gguf(*c.gguf, families));
  c.generation = generation_gguf(*c.gguf, *c.config);
  c.tensors = c.gguf->tensors();
  c.files = c.gguf->paths();
  return c;
}

// The .gguf files of a folder, sorted, and of each that is in parts the first one.
std::vector<std::string> gguf_files(const fs::path& folder) {
  std::vector<std::string> all, found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".gguf") all.push_back(entry.path().string());
  std::sort(all.begin(), all.end());
  std::set<std::string> split;
  for (const std::string& path : all) {
    const auto part = parse_gguf_part_name(path);
    if (!part || split.insert(part->of(1)).second) found.push_back(path);
  }
  return found;
}

// The files of an open folder: those that its tensors lie in, `weights` (an index, perhaps), and what is beside them.
std::vector<std::string> files_of(const Checkpoint& c, const fs::path& weights) {
  const fs::path folder = c.folder;
  std::set<std::string> files = {weights.string(), (folder / "config.json").string()};
  for (const StoredTensor& tensor : c.tensors) files.insert(tensor.file->path());
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder.empty() ? "." : folder, ignored))
    if (is_companion(entry.path().filename().string())) files.insert(entry.path().string());
  return {files.begin(), files.end()};
}

Checkpoint open_hugging_face(const fs::path& path, const fs::path& folder, const fs::path& weights,
                             const WeightForm& form, FamilyConfigs families) {
  Checkpoint c;
  c.path = path.string();
  c.folder = folder.string();
  c.config = std::make_shared<ModelConfig>(read_config_json((folder / "config.json").string(), families));
  c.generation = generation_json(folder);
  c.tensors = form.read(weights.string());
  c.files = files_of(c, weights);
  unpack_gptq_awq(c);
  return c;
}

Checkpoint open_folder(const fs::path& folder, FamilyConfigs families) {
  const bool config = is_file(folder / "config.json");
  const auto* form = std::find_if(std::begin(kWeightForms), std::end(kWeightForms),
                                  [&](const WeightForm& f) { return is_file(folder / f.name); });
  const bool weights = form != std::end(kWeightForms);
  if (config && weights) return open_hugging_face(folder, folder, folder / form->name, *form, families);
  if (!weights) {
    const auto gguf = gguf_files(folder);
    if (gguf.size() == 1) return open_gguf(gguf[0], families);
    check(gguf.empty(), "load", "{} holds several .gguf files, name one: {}", folder.string(), fmt::join(gguf, ", "));
  }
  std::vector<std::string> missing;
  if (!config) missing.push_back("config.json");
  if (!weights)
    missing.push_back(
        "model.safetensors (or model.safetensors.index.json and its shards, or pytorch_model.bin, or "
        "pytorch_model.bin.index.json and its shards)");
  throw Error(fmt::format("load: {} lacks {}", folder.string(), fmt::join(missing, " and ")));
}

// Whether a file is named like one of several: model-00001-of-00002.safetensors.
bool is_shard(const std::string& name, const std::string& ending) {
  return parse_gguf_part_name(name.substr(0, name.size() - ending.size()) + ".gguf").has_value();
}

Checkpoint open_file(const fs::path& path, FamilyConfigs families) {
  const std::string name = path.filename().string();
  for (const WeightForm* form = std::begin(kWeightForms); form != std::end(kWeightForms); ++form) {
    if (!name.ends_with(form->ending)) continue;
    const fs::path folder = path.parent_path();
    check(is_file(folder / "config.json"), "load", "{} needs config.json beside it, which is missing", path.string());
    // Of a shard the model is all of them, where the form's index, the next in the list, is there.
    const bool is_index = name.ends_with(".index.json");
    if (!is_index && is_shard(name, form->ending) && is_file(folder / form[1].name))
      return open_hugging_face(path, folder, folder / form[1].name, form[1], families);
    return open_hugging_face(path, folder, path, *form, families);
  }
  throw Error(
      fmt::format("load: {} is no folder and ends neither in .gguf nor in .safetensors nor in .bin", path.string()));
}

}  // namespace

bool is_companion(const std::string& name) {
  for (const char* file : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                           "tokenizer.model", "tekken.json", "vocab.json", "merges.txt", "vocab.bpe", "encoder.json",
                           "vocab.txt", "chat_template.jinja", "chat_template.json", "generation_config.json"})
    if (name == file) return true;
  return name.ends_with(".tiktoken") || name.starts_with("LICENSE") || name.starts_with("NOTICE");
}

void Checkpoint::unpack() {
  for (const auto& make_values : unpacking) make_values();
  unpacking.clear();
}

size_t Checkpoint::stored_bytes() const {
  size_t bytes = 0;
  for (const StoredTensor& tensor : tensors) bytes += tensor.bytes;
  return bytes;
}

std::string Checkpoint::fingerprint() const {
  constexpr size_t kBytes = 256;  // from the middle of each tensor
  ContentHash hash;
  for (const StoredTensor& tensor : tensors) {
    hash.add(tensor.name).add(tensor.type_name);
    for (const int64_t dim : tensor.shape) hash.add(dim);
    hash.add(tensor.data + tensor.bytes / 2, std::min(kBytes, tensor.bytes - tensor.bytes / 2));
  }
  return hash.hex();
}

Checkpoint open_checkpoint(const std::string& model, FamilyConfigs families) {
  const fs::path path = resolve_model(model, families);
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return open_folder(path, families);
  if (path.extension() == ".gguf") return open_gguf(path.string(), families);
  return open_file(path, families);
}

}  // namespace lathe
