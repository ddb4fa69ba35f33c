// Writing a model in another form: a Hugging Face folder, one .safetensors file, or a .gguf file.
//
// The families' weight mappings are read backwards, one tensor at a time, so that a model of any size passes through
// the memory of its largest tensor.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "llm/load.h"

namespace lathe {

struct ExportOptions {
  // Of all weights: f32, bf16 or f16. Empty: as each tensor is stored; safetensors has no block formats, so such
  // weights become f32 there, exactly. Norms and biases are f32 in GGUF whatever is asked.
  std::optional<DType> dtype = {};
  // GGUF only: matrices and the embedding table in this block format, or what takes its place where rows do not fit
  // (see LoadOptions). Tables of positions and routers of experts keep their dtype.
  std::optional<DType> quantize = {};
  // The folder of an adapter whose changes are added to the weights first, in f32; empty: none.
  std::string adapter = {};
  size_t shard_bytes = size_t{5} * 1000 * 1000 * 1000;  // Hugging Face folders: a shard's most, of tensors
};

// `model` as on the command line; `output`: a file that ends in .gguf or .safetensors (config.json is written beside it
// unless there is one), else a folder, new or empty. Nothing appears under the output's name before it is whole.
// Returns what a user should know of the result, one line each. Throws Error for what the form cannot hold, a value
// beyond the range of its type among it, and for an output that is one of the model's files.
std::vector<std::string> export_model(const std::string& model, const std::string& output,
                                      const ExportOptions& options = {});
// The same of a model that is loaded: trainable weights are written as they are in memory, which somebody may have
// edited, and count as stored in f32. What else the model is made of is read from its checkpoint once more.
std::vector<std::string> export_model(const LoadedModel& loaded, const std::string& output,
                                      const ExportOptions& options = {});
// One that comes from no checkpoint, as training makes it: its config.json says what its configuration does, and the
// tokenizer's files of the folder `companions`, empty for none, go with it.
std::vector<std::string> export_model(CausalLM& model, const std::string& companions, const std::string& output,
                                      const ExportOptions& options = {});

}  // namespace lathe
