// CausalLM: the only virtual interface of a model, and what is computed over it.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "attention/batch.h"
#include "common/module.h"
#include "config/model_sizes.h"
#include "load_model/load_parameters.h"

namespace lathe {

struct Adapter;  // llm/adapter.h

class CausalLM {
 public:
  explicit CausalLM(const ModelConfig& config);
  virtual ~CausalLM();

  // The hidden states after the final norm: (N, C).
  virtual Tensor hidden(const Batch& batch) const = 0;
  // The last step of `hidden`: a residual stream, after any block, as the head takes it. (N, C) -> (N, C)
  virtual Tensor final_norm(const Tensor& x) const = 0;
  virtual Head head() const = 0;
  // Names every parameter once; a tied head is not named again.
  virtual void visit(Visitor& v) = 0;

  // Where the weights lie, once there are any, and so the activations and the cache.
  Device device() const { return head().weight->device(); }

  const std::unique_ptr<const ModelConfig> owned_config;
  const ModelConfig& config;  // all of it, which few need: config/model_config.h
  const ModelSizes& sizes;    // the part of it that most code needs
  // That share the weights out, each with a part (llm/tensor_parallel.h); all of them run the same passes.
  Communicator* ranks = &Communicator::one();
  // Where several do: the configuration of what all of them have.
  std::unique_ptr<const ModelConfig> whole_config;
  std::unique_ptr<Adapter> adapter;  // changes of weights, which parameters point to; null: none
};

// Rows batch.logit_rows of the logits: (R, V).
Tensor logits(const CausalLM& model, const Batch& batch);
// The same of what model.hidden(batch) was.
Tensor logits_of(const CausalLM& model, const Batch& batch, const Tensor& hidden);
// Mean next-token cross-entropy of every sequence's tokens over the whole batch, without holding the logits: (1).
// targets (N) i32, kIgnoredTarget where there is none. `total` divides the sum in place of the count of targets when it
// is positive. Records on the active tape.
Tensor loss(const CausalLM& model, const Batch& batch, const Tensor& targets, double total = 0.0);

std::vector<NamedParameter> named_parameters(CausalLM& model);
// And those of its adapter, which no checkpoint of the model has.
std::vector<NamedParameter> all_parameters(CausalLM& model);
int64_t count_parameters(CausalLM& model);
// Bytes of all weights in memory (packed or not).
size_t weight_bytes(CausalLM& model);
// Fresh weights: matrices and embeddings normal with the config's initializer_range (by seed and name),
// norms 1 (less the config's norm_offset), biases 0, in `dtype` (f32 or f64).
void initialise(CausalLM& model, uint64_t seed, DType dtype = DType::f32);
// Moves the weights that are not packed, an adapter's among them, to a device; those that are packed stay.
void move_weights(CausalLM& model, Device device);
// Packs every matrix for inference with the same arithmetic.
void prepare_for_inference(CausalLM& model, Arithmetic arithmetic);

}  // namespace lathe
