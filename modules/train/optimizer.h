// The one step by which weights change, over the flat memory of an arena.
//
//   adamw  Loshchilov and Hutter 2019, algorithm 2
//   sgd    with momentum, as torch.optim.SGD
//   muon   for the matrices of linear layers: the momentum made nearly orthogonal by Newton and Schulz's iteration
//          (Jordan et al. 2024); AdamW for tables, the head, routers, norms and biases. q, k, v, gate, up and each
//          expert are matrices of their own.
#pragma once
#include <string>
#include <vector>

#include "train/parameter_arena.h"
#include "train/recipe.h"

namespace lathe {

// The norm of a step's change of the weights over the norm of the weights, of three groups; 0 where one is empty.
struct UpdateRatios {
  double matrices = 0.0, tables = 0.0, others = 0.0;  // others: what does not decay
};

class Optimizer {
 public:
  // The arena must outlive it.
  Optimizer(const OptimizerRecipe& recipe, const ParameterArena& arena);

  // Step `number`, from 1, with the arena's gradients times `gradient_scale`, which are zero afterwards. With `ratios`,
  // the same bits are made parameter by parameter, and measured.
  void step(int64_t number, double learning_rate, double gradient_scale, UpdateRatios* ratios = nullptr);

  // What a checkpoint keeps beside the weights: elements [begin, begin + size) of the arena have these.
  struct State {
    std::string name;
    int64_t begin = 0;
    Tensor values = {};  // (size) f32
  };
  const std::vector<State>& states() const { return states_; }

 private:
  // Elements [begin, end) are of one group of the arena.
  void update(int64_t begin, int64_t end, int64_t number, double rate, double scale);
  void adamw(int64_t begin, int64_t end, double weight_decay, int64_t number, double rate, double scale);
  void sgd(int64_t begin, int64_t end, double weight_decay, double rate, double scale);
  void muon(const ParameterArena::Slice& slice, double rate, double scale);
  Tensor state(size_t index, int64_t begin, int64_t end) const;

  OptimizerRecipe recipe_;
  const ParameterArena& arena_;
  std::vector<State> states_;
};

// The Euclidean norm of all gradients.
double gradient_norm(const ParameterArena& arena);

}  // namespace lathe
