// A model as a Hugging Face folder, or one .safetensors file: see write_model.h.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "attention/rope_frequencies.h"
#include "config/config_export.h"
#include "config/model_config.h"
#include "formats/atomic_file.h"
#include "formats/safetensors.h"
#include "llm/family.h"
#include "llm/write_model.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string dtype_name(DType dtype) {
  return dtype == DType::bf16  ? "bfloat16"
         : dtype == DType::f16 ? "float16"
         : dtype == DType::f64 ? "float64"
                               : "float32";
}

// GGUF holds Llama 3's scaling as a divisor for each frequency. The published models differ in the factor alone.
void recognise_llama3(ModelConfig& c) {
  if (c.rope_frequency_factors.empty() || c.rope_scaling != RopeScaling::none) return;
  ModelConfig scaled = c;
  scaled.rope_frequency_factors.clear();
  scaled.rope_scaling = RopeScaling::llama3;
  scaled.rope_factor = *std::max_element(c.rope_frequency_factors.begin(), c.rope_frequency_factors.end());
  scaled.rope_original_max_position = 8192;
  const std::vector<float> wanted = rope_frequencies(c, 1).inverse, got = rope_frequencies(scaled, 1).inverse;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (std::abs(wanted[i] - got[i]) > 1e-5f * wanted[i]) return;
  c = scaled;
}

// What a family's Hugging Face files add to the weights of norms.
double folder_norm_offset(const ModelConfig& c) { return family_of(c).defaults.norm_offset; }

// The model's own config.json with what the export changes, every other key as it was; one written from the
// configuration where the model brought none.
std::string config_text(const OutgoingModel& model, DType dtype) {
  ModelConfig config = model.config;
  config.dtype = dtype_name(dtype);
  if (model.origin == nullptr || model.origin->gguf) {
    recognise_llama3(config);
    config.norm_offset = folder_norm_offset(config);
    return to_config_json(config, family_of(config));
  }
  const auto file = MappedFile::open((fs::path(model.origin->folder) / "config.json").string());
  Json root = Json::parse(file->bytes());  // in its own order; it has been read strictly when the model was opened
  const bool old_spelling = root.contains("torch_dtype");
  root[old_spelling ? "torch_dtype" : "dtype"] = config.dtype;
  root.erase("quantization_config");
  root["tie_word_embeddings"] = config.tie_word_embeddings;
  return root.dump(2) + "\n";
}

std::vector<std::string> copy_companions(const OutgoingModel& model, const std::string& folder) {
  if (model.origin != nullptr && model.origin->gguf)
    return {"the vocabulary of a GGUF file is not turned into tokenizer files: the folder has none"};
  if (model.companions.empty()) return {};
  for (const auto& entry : fs::directory_iterator(model.companions))
    if (entry.is_regular_file() && is_companion(entry.path().filename().string())) {
      if (entry.file_size() > 0) MappedFile::open(entry.path().string());  // throws where it is a git-lfs pointer
      fs::copy_file(entry.path(), fs::path(folder) / entry.path().filename());
    }
  return {};
}

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

// Whole tensors in the order of the model, as many to a shard as its size allows.
std::vector<std::vector<OutgoingTensor>> into_shards(std::vector<OutgoingTensor> tensors, size_t most) {
  std::vector<std::vector<OutgoingTensor>> shards(1);
  size_t bytes = 0;
  for (OutgoingTensor& tensor : tensors) {
    if (!shards.back().empty() && bytes + tensor.bytes() > most) shards.emplace_back(), bytes = 0;
    bytes += tensor.bytes();
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

void write_weights(const fs::path& folder, std::vector<OutgoingTensor> tensors, size_t shard_bytes) {
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};  // transformers asks for it
  const auto shards = into_shards(std::move(tensors), shard_bytes);
  if (shards.size() == 1) return write_safetensors((folder / "model.safetensors").string(), shards[0], metadata);
  Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
  size_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const OutgoingTensor& tensor : shards[i]) {
      index["weight_map"].push_back({tensor.name, name});
      total += tensor.bytes();
    }
    write_safetensors((folder / name).string(), shards[i], metadata);
  }
  index["metadata"]["total_size"] = total;
  write_text((folder / "model.safetensors.index.json").string(), index.dump(2) + "\n");
}

std::vector<OutgoingTensor> hugging_face_tensors(const OutgoingModel& model, const ExportOptions& options) {
  check(!options.quantize, "convert", "safetensors has no type {}; block formats go into a .gguf file",
        name(options.quantize.value_or(DType::f32)));
  return outgoing_tensors(model, CheckpointFormat::hugging_face, folder_norm_offset(model.config),
                          [&](const CheckpointTensor&, const Parameter&, DType stored) {
                            return options.dtype.value_or(is_quantised(stored) ? DType::f32 : stored);
                          });
}

std::vector<std::string> write_folder(const OutgoingModel& model, const std::string& output,
                                      const ExportOptions& options) {
  std::vector<OutgoingTensor> tensors = hugging_face_tensors(model, options);
  AtomicFolder folder(output);
  write_text(folder.path() + "/config.json", config_text(model, most_common(tensors)));
  std::vector<std::string> remarks = copy_companions(model, folder.path());
  write_weights(folder.path(), std::move(tensors), options.shard_bytes);
  folder.commit();
  return remarks;
}

std::vector<std::string> write_file(const OutgoingModel& model, const std::string& output,
                                    const ExportOptions& options) {
  std::vector<OutgoingTensor> tensors = hugging_face_tensors(model, options);
  const fs::path config = fs::path(output).parent_path() / "config.json";
  if (fs::exists(config)) {
    write_safetensors(output, std::move(tensors), {{"format", "pt"}});
    return {fmt::format("{} is left as it is", config.string())};
  }
  const std::string text = config_text(model, most_common(tensors));  // what it cannot say, before anything is written
  write_safetensors(output, std::move(tensors), {{"format", "pt"}});
  write_text(config.string(), text);
  return {};
}

}  // namespace

std::vector<std::string> write_hugging_face(const OutgoingModel& model, const std::string& output,
                                            const ExportOptions& options) {
  return output.ends_with(".safetensors") ? write_file(model, output, options) : write_folder(model, output, options);
}

}  // namespace lathe
