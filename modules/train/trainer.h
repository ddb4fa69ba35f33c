// The trainer: rows of data in, one optimizer step out.
//
// Its loop is the whole of training: the steps of accumulation record a tape each and add their gradients into one
// arena, then one optimizer step is made. A step divides one sum of target losses by one count of targets, however the
// rows are cut into micro-batches, and however many ranks share them.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tensor/communicator.h"
#include "train/dataset.h"
#include "train/micro_batch.h"
#include "train/optimizer.h"
#include "train/parameter_arena.h"
#include "train/preference.h"
#include "train/recipe.h"
#include "train/step_graphs.h"

namespace lathe {

// How long a run is. The last step of a run by epochs may have fewer rows than the others.
struct TrainingLength {
  int64_t steps = 0;
  int64_t rows = 0;  // in all; the last step ends there
};
// Throws Error where a run has no step.
TrainingLength training_length(const TrainingRecipe& recipe, const Dataset& data);

struct TrainingStep {
  int64_t number = 0;           // from 1
  double loss = 0.0;            // the mean over all targets of the step, of preferences over all pairs
  double router_balance = 0.0;  // what is added for the experts' balance, its factor included
  double gradient_norm = 0.0;   // before clipping
  double learning_rate = 0.0;
  int64_t tokens = 0, targets = 0;
  std::optional<PreferenceFigures> preference;  // where pairs are learnt from
  std::optional<UpdateRatios> update_ratios;    // where they are measured
  std::string skipped;                          // why the weights were left alone; empty: they were not
};

class Trainer {
 public:
  // The model's weights are moved into the trainer's arena, the first rank's to all of them; model, data and ranks must
  // outlive it. Of a model whose weights are shared out, `ranks` are those that do, and all of them take all rows.
  // `reference`, for preferences, is looked at by `step` and may be filled later.
  Trainer(CausalLM& model, const Recipe& recipe, const Dataset& data, TrainingLength length,
          Communicator& ranks = Communicator::one(), const ReferenceScores* reference = nullptr);

  // The next step, which all ranks make together: its figures and the weights are the same on all of them. A step whose
  // loss or gradients are not finite changes nothing and says which tensor was the first.
  TrainingStep step(bool measure_updates = false);
  // Steps made, optimizer steps among them, and the norms of the last of these; set when a run goes on.
  int64_t steps_done = 0, updates_done = 0;
  std::vector<double> norms;

  // The micro-batches of a step, from 1, with the rows of all ranks.
  std::vector<TrainingRows> rows_of(int64_t step) const;

  const ParameterArena& arena() const { return arena_; }
  const Optimizer& optimizer() const { return optimizer_; }
  const TrainingLength& length() const { return length_; }
  Communicator& ranks() const { return shares_weights() ? tensor_ranks_ : ranks_; }
  bool shares_weights() const { return !tensor_ranks_.alone(); }
  // Of a run on a CUDA device that learns no preferences; else null.
  StepGraphs* graphs() { return graphs_.get(); }

 private:
  friend class AveragedWeights;
  std::vector<TrainingRows> rows_of(int64_t step, Communicator& ranks) const;
  void count(const std::vector<TrainingRows>& micro_batches, TrainingStep& step) const;
  MicroBatchNumbers numbers_of(const TrainingRows& rows, int64_t index, const TrainingStep& step) const;
  void accumulate(const TrainingRows& rows, int64_t index, TrainingStep& step) const;
  void accumulate_pairs(const TrainingRows& rows, int64_t number, TrainingStep& step) const;
  void read_losses(const std::vector<TrainingRows>& micro_batches, TrainingStep& step) const;
  void add_over_ranks(TrainingStep& step) const;
  std::string why_to_skip(const std::vector<TrainingRows>& micro_batches, const TrainingStep& step) const;
  void gather_values();
  void take_first_values();

  CausalLM& model_;
  const Recipe recipe_;
  const Dataset& data_;
  TrainingLength length_;
  Communicator &ranks_, &tensor_ranks_;  // that share rows out; that share weights out
  const ReferenceScores* reference_;
  ParameterArena arena_;
  Optimizer optimizer_;
  Tensor losses_;                       // (micro-batches of a step, 2) f32, as run_micro_batch leaves them
  std::unique_ptr<StepGraphs> graphs_;  // null: see graphs()
};

// While it lives, the model has the average of its weights, where the recipe keeps one. All ranks together.
class AveragedWeights {
 public:
  explicit AveragedWeights(Trainer& trainer) : trainer_(trainer) { swap(); }
  ~AveragedWeights() { swap(); }
  AveragedWeights(const AveragedWeights&) = delete;
  AveragedWeights& operator=(const AveragedWeights&) = delete;

 private:
  void swap();
  Trainer& trainer_;
};

struct Evaluation {
  double loss = 0.0;           // mean over the targets
  double bits_per_byte = 0.0;  // 0 where the bytes of the text are not known
  int64_t targets = 0;
  std::optional<PreferenceFigures> preference;
};
// Over the first `batches` batches of an epoch, each of `batch_size` rows, which the ranks share; 0: over all of it.
Evaluation evaluate_loss(const CausalLM& model, const Dataset& data, int64_t batch_size, int64_t batches,
                         Communicator& ranks = Communicator::one());
// The same of pairs: their loss, by what the model that the run began with says of them.
Evaluation evaluate_preferences(const CausalLM& model, const Dataset& data, const ReferenceScores& reference,
                                double beta, int64_t batch_size, int64_t batches,
                                Communicator& ranks = Communicator::one());

}  // namespace lathe
