// A micro-batch: what its forward and backward read beside the weights, and both of them.
#pragma once
#include <vector>

#include "autograd/low_rank.h"
#include "autograd/precision.h"
#include "autograd/tape.h"
#include "common/dropout.h"
#include "llm/causal_lm.h"
#include "train/dataset.h"
#include "train/recipe.h"

namespace lathe {

// The batch of some rows, on the model's device: each document has positions of its own, and the rotary frequencies of
// its length.
Batch make_training_batch(const CausalLM& model, const TrainingRows& rows,
                          TrainingRecipe::Recompute recompute = TrainingRecipe::Recompute::none);

// While it lives, forward and backward of a micro-batch drop what the recipe and a seed (autograd/ops.h: dropout_seed)
// say, and multiply in the recipe's arithmetic.
class MicroBatchScope {
 public:
  MicroBatchScope(const Recipe& recipe, const Tensor& seed);
  // By the seed of micro-batch number `index` (from 0, over all ranks) of step `step`.
  MicroBatchScope(const Recipe& recipe, int64_t step, int64_t index);

 private:
  Dropout dropout_;
  Dropout::Scope dropping_;
  LowRankDropout adapter_dropout_;
  LowRankDropout::Scope dropping_in_adapter_;
  Precision precision_;
};

// The arithmetic of a step's products (autograd/precision.h), forward and backward. Evaluation computes in f32.
Arithmetic products_of(const TrainingRecipe& recipe);

// The loss that balances the experts whose routers said `router_logits` (common/router_logits.h), times `factor`: (1),
// undefined where that is 0 or the model has none.
Tensor router_balance_loss(const CausalLM& model, const std::vector<Tensor>& router_logits, double factor);

// What changes with each micro-batch beside its rows.
struct MicroBatchNumbers {
  int64_t targets = 0;          // of the whole step: what the sum of losses is divided by
  double router_balance = 0.0;  // what the loss that balances experts is multiplied by
  uint64_t dropout_seed = 0;
};
// Of micro-batch number `index` (from 0, over all ranks) of step `step`, which has so many targets.
MicroBatchNumbers micro_batch_numbers(const CausalLM& model, const Recipe& recipe, const TrainingRows& rows,
                                      int64_t targets, int64_t step, int64_t index);

// The two terms of a loss, of cross-entropy and of the routers, each in two factors: one of the forward, and one that
// the gradients begin with and that the host multiplies the figures by. On a CUDA device the numbers of a micro-batch
// are in the second factor, so that a recorded forward can be run with others; elsewhere in the first.
struct LossFactors {
  double total = 1.0, router_balance = 0.0;  // forward: what the sum is divided by, and the routers' factor
  double behind[2] = {1.0, 1.0};

  LossFactors(Device device, const MicroBatchNumbers& numbers);
  Tensor gradients() const;  // `behind` (2) f32, on the host: what backward begins with
};

struct MicroBatch {
  Batch batch;
  Tensor targets;       // (N) i32
  Tensor dropout_seed;  // (2) i32
  Tensor gradients;     // (2) f32: LossFactors::gradients
  double total = 1.0, router_balance = 0.0;
};
MicroBatch make_micro_batch(const CausalLM& model, const Recipe& recipe, const TrainingRows& rows,
                            const MicroBatchNumbers& numbers);

struct MicroBatchLoss {
  Tensor cross_entropy;   // (1): the sum over the rows' targets, divided by the total
  Tensor router_balance;  // (1): the routers' share, its factor included; undefined where there is none

  // What backward begins with: `gradients` (2) of the two.
  std::vector<Tape::Seed> seeds(const Tensor& gradients) const;
};
// Records on the active tape.
MicroBatchLoss micro_batch_loss(const CausalLM& model, const MicroBatch& m);
// Forward and backward: adds to the gradients of the weights. Both losses go to `figures` (2) f32, which keeps its
// second number where there are no routers.
void run_micro_batch(const CausalLM& model, const Recipe& recipe, const MicroBatch& m, const Tensor& figures);

}  // namespace lathe
