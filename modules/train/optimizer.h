// The one step by which weights change, over the flat memory of an arena. Each rank has the states of its part of it
// and makes the step of that part (Rajbhandari et al. 2020, "ZeRO", stage 1); a matrix that Muon steps is whole on one
// rank.
//
//   adamw  Loshchilov and Hutter 2019, algorithm 2
//   sgd    with momentum, as torch.optim.SGD
//   muon   for the matrices of linear layers: the momentum made nearly orthogonal by Newton and Schulz's iteration
//          (Jordan et al. 2024); AdamW for tables, the head, routers, norms and biases. q, k, v, gate, up and each
//          expert are matrices of their own.
//
// States are f32, or where the recipe says so codes of 8 bits with a scale a block (kernels/optimizer.h). Norms, biases
// and tensors of less than ParameterArena::kLarge elements keep f32, as in bitsandbytes.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "autograd/update.h"
#include "tensor/communicator.h"
#include "train/parameter_arena.h"
#include "train/recipe.h"

namespace lathe {

// The norm of a step's change of the weights over the norm of the weights, of three groups; 0 where one is empty.
struct UpdateRatios {
  double matrices = 0.0, tables = 0.0, others = 0.0;  // others: what does not decay
};

// What gradients of this norm are multiplied by, so that their norm is at most `clip`; 0: not clipped. As
// torch.nn.utils.clip_grad_norm_ has it.
double clip_factor(double clip, double norm);

class Optimizer {
 public:
  // Arena and ranks must outlive it. `seed` is what states of 8 bits are rounded by; `tensor_ranks` have other rows of
  // the weights, or all of those of one another.
  Optimizer(const OptimizerRecipe& recipe, const ParameterArena& arena, Communicator& ranks = Communicator::one(),
            uint64_t seed = 0, Communicator& tensor_ranks = Communicator::one());

  // Rank r steps elements [borders()[r], borders()[r + 1]) of the arena.
  const std::vector<int64_t>& borders() const { return borders_; }
  // The Euclidean norm of all gradients, of which each rank has those of its part.
  double gradient_norm() const;
  // The first gradient, over all ranks, that is not finite, in words; empty where all are.
  std::string first_not_finite() const;

  // Step `number`, from 1, of this rank's part, with the gradients times `gradient_scale`, which are zero afterwards.
  // With `ratios`, the same bits are made parameter by parameter, and measured over all ranks.
  void step(int64_t number, double learning_rate, double gradient_scale, UpdateRatios* ratios = nullptr);

  // Behind step `number`: moves the average of weights, where the recipe keeps one. It begins as the weights of step 1.
  void average(int64_t number);
  // Exchanges this rank's part of the weights for that of their average, which the recipe must keep.
  void swap_average();

  // What a checkpoint keeps beside the weights: elements [first, last) of the arena have it, `share` of them together
  // one value, and this rank keeps those from `begin` on.
  struct State {
    std::string name;
    int64_t first, last, begin;
    int64_t share;  // 1; of codes 4, of their scales kStateBlock
    Tensor values;  // f32, of codes i32
  };
  const std::vector<State>& states() const { return states_; }
  // ((last - first) / share): the state of all ranks, on the first of them alone.
  Tensor whole(const State& state) const;

 private:
  // A moment of the elements of a section that this rank steps: one of the two is there.
  struct Moment {
    Tensor values;
    CodedTensor coded;
  };
  // Slices of one group in a row, whose states are of one kind.
  struct Section {
    std::span<const ParameterArena::Slice> slices;
    bool coded = false;
    int64_t begin = 0, end = 0;  // in the arena, of this rank
    Moment first = {}, second = {};
    int64_t first_element() const { return slices.front().begin; }
    int64_t last_element() const { return slices.back().begin + slices.back().room; }
    bool matrix() const { return slices.front().matrix; }
    bool decays() const { return slices.front().decays; }
  };
  void add_sections();
  void add_states(Section& section);
  Moment add_moment(const char* name, const Section& section);
  Tensor add_state(const std::string& name, int64_t first, int64_t last, int64_t share);

  // Whether sums over all ranks count a slice here: one that several have whole is the first one's.
  bool counts(const ParameterArena::Slice& slice) const {
    return slice.parameter->is_part() || tensor_ranks_.is_first();
  }
  void sum_over_ranks(std::span<double> values) const;

  // Elements [begin, end) of a section.
  void update(const Section& section, int64_t begin, int64_t end, int64_t number, double rate, double scale);
  void adamw(const Section& section, int64_t begin, int64_t end, int64_t number, double rate, double scale);
  void sgd(const Section& section, int64_t begin, int64_t end, int64_t number, double rate, double scale);
  void muon(const Section& section, const ParameterArena::Slice& slice, int64_t number, double rate, double scale);
  StateDraws draws(int64_t begin, int64_t number) const;

  OptimizerRecipe recipe_;
  const ParameterArena& arena_;
  Communicator &ranks_, &tensor_ranks_;
  const uint64_t seed_;
  std::vector<int64_t> borders_;
  int64_t begin_, end_;  // of this rank
  std::vector<Section> sections_;
  std::vector<State> states_;
};

}  // namespace lathe
