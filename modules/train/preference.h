// Learning which of two answers is preferred, without a model of rewards (DPO): Rafailov et al. 2023, equation 7,
//
//   loss = -log sigmoid(beta ((log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected))))
//
// where log p is the sum of the log-probabilities of an answer's tokens, the one that ends it included, and p_ref is
// the model that the run began with.
#pragma once
#include <string>
#include <vector>

#include "autograd/tape.h"
#include "llm/causal_lm.h"
#include "train/dataset.h"

namespace lathe {

// Over some pairs.
struct PreferenceFigures {
  double margin = 0.0;    // mean of beta (...), by which the chosen answer is the more probable one than at the start
  double accuracy = 0.0;  // share of pairs whose margin is positive
  int64_t pairs = 0;
};

// (R): of every target of some rows, recorded.
Tensor answer_log_probabilities(const CausalLM& model, const Batch& batch, const TrainingRows& rows);

// The answers of some rows under a model.
struct ScoredAnswers {
  Tensor log_probabilities;          // (R)
  std::vector<int32_t> sequence_of;  // (R): the sequence that a target belongs to
  std::vector<double> sums;          // (S): by sequence
};
ScoredAnswers score_answers(const CausalLM& model, const Batch& batch, const TrainingRows& rows);

// log p_ref of records, by their number (TrainingRows::pieces).
class ReferenceScores {
 public:
  // Those of the pairs in rows [0, rows) of `data`, in batches of `batch_size` rows, as training forms them: the first
  // step then sees the very same sums. What the file holds for these data is taken from there, and the file written
  // anew where something was missing. `model` is the one that the run begins with. Throws Error naming the file.
  void prepare(const CausalLM& model, const Dataset& data, int64_t rows, int64_t batch_size, const std::string& file);
  double operator[](int64_t record) const { return scores_[static_cast<size_t>(record)]; }

 private:
  bool has(const std::vector<int64_t>& records) const;
  void read(const std::string& file, const std::string& data_key);
  void write(const std::string& file, const std::string& data_key) const;

  std::vector<double> scores_;  // NaN where one was not computed
};

// The part that the pairs of some rows have of a mean over `pairs`.
struct PreferenceLoss {
  double loss = 0.0, margin = 0.0, accuracy = 0.0;
  Tape::Seed seed;  // the answers' log-probabilities and the gradient of the loss by them
};
PreferenceLoss preference_loss(const ScoredAnswers& answers, const TrainingRows& rows, const ReferenceScores& reference,
                               double beta, int64_t pairs);

}  // namespace lathe
