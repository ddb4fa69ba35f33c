// A model that is to be written: where its weights are taken from, and what goes with them.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "formats/outgoing_tensor.h"
#include "llm/load.h"

namespace lathe {

// Weights, one at a time: of a checkpoint, or in memory.
struct WeightSource {
  std::vector<NamedParameter> parameters;  // names, kinds and shapes
  std::function<DType(size_t)> dtype;      // as parameter number i is stored
  std::function<Tensor(size_t)> read;      // its value, of that type
};

// As the checkpoint of `opened` stores them.
WeightSource checkpoint_weights(std::shared_ptr<LoadedModel> opened);
// As they are in memory, unpacked: those that a tape follows, or an optimizer's masters. The model must outlive them.
WeightSource memory_weights(CausalLM& model);

struct OutgoingModel {
  const ModelConfig& config;
  WeightSource weights;
  // Whose other keys and metadata go with it; null: it comes from no checkpoint.
  const Checkpoint* origin = nullptr;
  std::string companions = {};  // the folder of its tokenizer's files, licences and the like; empty: none
};

// What a tensor of the form becomes, by its name and shape, the parameter and what that is stored as.
using DTypeFor = std::function<DType(const CheckpointTensor& tensor, const Parameter& parameter, DType stored)>;

// The tensors of one form of checkpoint, in the order of the model. Norms are written so that a reader who adds
// `norm_offset` to them has what they are.
std::vector<OutgoingTensor> outgoing_tensors(const OutgoingModel& model, CheckpointFormat format, double norm_offset,
                                             const DTypeFor& dtype_for);
// The type of most of their bytes.
DType most_common(const std::vector<OutgoingTensor>& tensors);

}  // namespace lathe
