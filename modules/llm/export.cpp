// See export.h.
#include "llm/export.h"

#include <algorithm>

#include "config/model_config.h"
#include "formats/atomic_file.h"
#include "llm/merge_adapter.h"
#include "llm/write_model.h"

namespace lathe {
namespace {

std::vector<std::string> write(const OutgoingModel& model, const std::string& output, const ExportOptions& options) {
  if (model.origin != nullptr) check_not_input(output, model.origin->files);
  return output.ends_with(".gguf") ? write_gguf_file(model, output, options)
                                   : write_hugging_face(model, output, options);
}

// What its checkpoint brings goes with it.
std::vector<std::string> write(const LoadedModel& loaded, WeightSource weights, const std::string& output,
                               const ExportOptions& options) {
  const Checkpoint& origin = loaded.checkpoint;
  std::vector<std::string> remarks = loaded.warnings;
  std::string companions;
  if (!origin.gguf) companions = origin.folder.empty() ? "." : origin.folder;
  ModelConfig config = loaded.model->config;
  if (loaded.model->adapter) {
    MergedWeights merged = merge_adapter(*loaded.model, std::move(weights), options.quantize);
    weights = std::move(merged.weights);
    config.tie_word_embeddings = merged.tied;
    remarks.insert(remarks.end(), merged.remarks.begin(), merged.remarks.end());
  }
  const std::vector<std::string> more = write({config, std::move(weights), &origin, companions}, output, options);
  remarks.insert(remarks.end(), more.begin(), more.end());
  return remarks;
}

}  // namespace

std::vector<std::string> export_model(const std::string& model, const std::string& output,
                                      const ExportOptions& options) {
  const auto opened = std::make_shared<LoadedModel>(open_model(model, {.adapter = options.adapter}));
  return write(*opened, checkpoint_weights(opened), output, options);
}

std::vector<std::string> export_model(const LoadedModel& loaded, const std::string& output,
                                      const ExportOptions& options) {
  const std::vector<NamedParameter> parameters = named_parameters(*loaded.model);
  const bool packed = std::any_of(parameters.begin(), parameters.end(), [](auto& p) { return p.parameter->packed; });
  check(!packed || !loaded.model->adapter, "convert", "{}: the model has an adapter beside packed weights",
        loaded.checkpoint.path);
  if (packed) return export_model(loaded.checkpoint.path, output, options);
  return write(loaded, memory_weights(*loaded.model), output, options);
}

std::vector<std::string> export_model(CausalLM& model, const std::string& companions, const std::string& output,
                                      const ExportOptions& options) {
  return write({model.config, memory_weights(model), nullptr, companions}, output, options);
}

}  // namespace lathe
