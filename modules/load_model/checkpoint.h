// Finds and opens what `--model` names: a folder or a file in one of the checkpoint forms.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/model_sizes.h"
#include "formats/gguf.h"
#include "formats/stored_tensor.h"
#include "load_model/weight_mapping.h"

namespace lathe {

// Settings of generation_config.json, or of GGUF metadata; absent ones are empty.
struct GenerationDefaults {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  std::optional<bool> do_sample;
  std::vector<int64_t> eos_token_ids;  // each fits in 32 bits
};

struct Checkpoint {
  CheckpointFormat format = CheckpointFormat::hugging_face;
  std::string path;                           // what was opened: the folder, or the file
  std::string folder;                         // where companions lie (tokenizer.json)
  std::shared_ptr<const ModelConfig> config;  // config/model_config.h
  GenerationDefaults generation;              // read once, when the checkpoint is opened
  std::vector<StoredTensor> tensors;          // of all shards
  std::shared_ptr<const GgufFile> gguf;       // for GGUF only: its metadata
  // The model's files, read or beside those that were: weights, config.json, companions. None may be an output.
  std::vector<std::string> files;
  // What makes the values of tensors that are not stored as the library has them (gptq_awq.h); called by `unpack`
  // before any of them is read.
  std::vector<std::function<void()>> unpacking;

  void unpack();

  // Bytes of all tensors as stored.
  size_t stored_bytes() const;
  // By which other weights are told from these: of the names, types, shapes and some bytes of all tensors.
  std::string fingerprint() const;
};

// Whether a file of this name, in the folder of a Hugging Face model, belongs to the model beside its weights and its
// config.json: the tokenizer's files, templates, licences.
bool is_companion(const std::string& name);

// `model`: a Hugging Face folder (config.json; model.safetensors or pytorch_model.bin, whole or in shards with an
// index; the first of these where there are several), a .safetensors or .bin file, or a shard, with config.json beside
// it, or a .gguf file, any one where they are the parts of one. Anything else is looked up by resolve_model first. Its
// configuration is read as that of one of the families.
// Throws Error naming each required file that is missing.
Checkpoint open_checkpoint(const std::string& model, FamilyConfigs families);

// Turns `org/name[@revision]` or `family:size-variant[@revision]` into a path: looked up in models/, $LATHE_MODELS and
// the Hugging Face cache ($HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub), the latter form also by the
// repository that one of the families knows for it (config/published_models.h); an existing path is returned as it is.
// Throws Error that says where it looked and how to get the model.
std::string resolve_model(const std::string& model, FamilyConfigs families);

}  // namespace lathe
