// What Python trains with: gradients of weighted log-probabilities, summed over calls, and steps of the optimizer that
// `lathe train` has. The loop, its data and its loss are the caller's.
#pragma once
#include <memory>
#include <optional>
#include <span>

#include "python/src/model.h"
#include "train/optimizer.h"

namespace lathe::python {

class Trainer {
 public:
  // Of the recipe it takes `optimizer`, `adapter`, `model.dropout`, and of `training` clip, dtype, recompute, seed and
  // router_balance. With an adapter the weights stay as they are, packed or not, and it is what is trained; without one
  // an adapter that another trainer gave the model, or else its weights. Throws Error where these are packed or the
  // base of an adapter multiplies in int8, the model was loaded with an adapter or has another trainer, or arrays of
  // what is trained are held elsewhere.
  Trainer(std::shared_ptr<Model> model, const Recipe& recipe, const Poll& poll);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // Adds the gradient of the loss that it returns, - sum_i weights[i] log p(token i | those before it), over every
  // token but the first of each sequence; without weights their mean. The experts' balance is added to what the
  // gradient is of, not to the loss. Where it throws, gradients are zero.
  double backward(const Sequences& sequences, std::optional<std::span<const float>> weights, const Poll& poll);
  // One step, after which gradients are zero; returns their norm before clipping. Throws Error where there are none, or
  // one is not finite: then the weights are as they were. What the model has kept of prompts is forgotten.
  double step(std::optional<double> learning_rate, const Poll& poll);
  int64_t steps() const { return steps_; }

 private:
  void clear();
  void choose_what_is_trained();

  std::shared_ptr<Model> model_;
  const Recipe recipe_;
  std::optional<Optimizer> optimizer_;  // made once the model's arena is there
  bool has_gradients_ = false;
  int64_t steps_ = 0, calls_ = 0;  // of backward since the last step
};

}  // namespace lathe::python
