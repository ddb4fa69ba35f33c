// The micro-batches of training on a CUDA device as graphs: forward and backward are some hundreds of kernels, and
// starting them one by one takes the host longer than a small model takes the device.
//
// A graph is recorded for a form: so many tokens in so many sequences, over memory of its own that each micro-batch is
// copied to. Windows of a text have one form. Packed documents would have another nearly every time, so sequences
// without a target are put behind them until the tokens are a quarter, half, three quarters or all of the largest
// micro-batch, and empty ones until the sequences are a power of two. The first micro-batch of a form runs kernel by
// kernel and is recorded as it is. What the kernels do, and so the bits, is the same either way. Forms of as many
// tokens share the memory of their activations.
//
// Run kernel by kernel are:
//   texts whose rotary frequencies depend on their length, where they are not those of the recipe's context
//   micro-batches of a mixture that are not full: its routers would count the tokens of padding
//   models whose forward or backward waits for the device (experts with adapters do)
//   preferences, whose loss is the host's
//   the optimizer's step: one or two launches a group of weights, by numbers that the host knows when it has seen the
//   norm of the gradients
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tensor/stream.h"
#include "train/micro_batch.h"

namespace lathe {

class StepGraphs {
 public:
  // Of one of `ranks` processes, which share each micro-batch. The model and the recipe must outlive it.
  StepGraphs(const CausalLM& model, const Recipe& recipe, int ranks);
  ~StepGraphs();

  // Forward and backward of a micro-batch: adds to the gradients. What run_micro_batch leaves in its figures, (2),
  // which the next micro-batch overwrites.
  const Tensor& run(const TrainingRows& rows, const MicroBatchNumbers& numbers);

  bool records = true;  // false: everything runs kernel by kernel, to the same bits
  struct Counts {
    int64_t recorded = 0, replayed = 0;  // graphs, and micro-batches that were replays
    int64_t by_kernel = 0;               // micro-batches that ran kernel by kernel, those that were recorded among them
  };
  const Counts& counts() const { return counts_; }
  // Why nothing is recorded, in words; empty: it is.
  const std::string& why_not() const { return why_not_; }

  static constexpr size_t kMostForms = 24;

 private:
  struct Form;
  // Whether there is a form for the rows: for so many tokens, and texts with the angles that forms have.
  bool fits(const TrainingRows& rows) const;
  Form& form_of(const TrainingRows& rows);
  void record(Form& form, const std::function<void()>& work);

  const CausalLM& model_;
  const Recipe& recipe_;
  Tensor figures_;                    // (2) f32
  int64_t most_, longest_, padding_;  // tokens of a micro-batch, of a text, and of a sequence of padding, at most
  Counts counts_;
  std::string why_not_;
  std::shared_ptr<RopeTable> rope_;  // null: the model has none
  std::optional<Stream> recording_;
  std::map<std::pair<int64_t, int64_t>, std::unique_ptr<Form>> forms_;  // by tokens and sequences
};

}  // namespace lathe
