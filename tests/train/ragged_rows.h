// Data for the laws of training, and a run over them.
#pragma once
#include <string>
#include <vector>

#include "tests/train/goldens.h"
#include "train/dataset.h"
#include "train/trainer.h"

namespace lathe::test {

// Rows of random ids of which some have no target: row r has `1 + r % 5` documents and every third row learns one
// token.
class RaggedRows : public Dataset {
 public:
  explicit RaggedRows(int32_t vocabulary, int64_t context = 20) : vocabulary_(vocabulary), context_(context) {}
  TrainingRows rows(int64_t first, int64_t count) const override {
    TrainingRows rows;
    for (int64_t r = first; r < first + count; ++r) {
      const int64_t documents = 1 + r % 5;
      for (int64_t i = 0; i < context_; ++i) {
        if (i % (context_ / documents) == 0) rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
        rows.tokens.push_back(id(r, i));
        const bool learnt = r % 3 == 2 ? i == 7 : (r * 31 + i) % 4 != 0;
        rows.targets.push_back(learnt && !silent ? id(r, i + 1) : kIgnoredTarget);
        rows.target_count += learnt && !silent;
      }
    }
    rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
    return rows;
  }
  int64_t rows_per_epoch() const override { return 37; }
  Counts counts() const override { return {37 * context_, 37 * context_}; }
  const std::string& key() const override { return key_; }
  bool silent = false;  // nothing is learnt

 private:
  int32_t id(int64_t r, int64_t i) const {
    return static_cast<int32_t>((static_cast<uint64_t>(r * 1009 + i) * 2654435761u >> 7) %
                                static_cast<uint64_t>(vocabulary_));
  }
  int32_t vocabulary_;
  int64_t context_;
  std::string key_ = "ragged";
};

// Rows of so many ids that count up from the row's number: what a few steps can learn something of.
class CountingRows : public Dataset {
 public:
  explicit CountingRows(int64_t context) : context_(context) {}
  TrainingRows rows(int64_t first, int64_t count) const override {
    TrainingRows rows;
    rows.seq_start.push_back(0);
    for (int64_t r = first; r < first + count; ++r) {
      for (int64_t i = 0; i < context_; ++i) {
        rows.tokens.push_back(static_cast<int32_t>((7 * r + i) % 61));
        rows.targets.push_back(static_cast<int32_t>((7 * r + i + 1) % 61));
      }
      rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
      rows.pieces.push_back(r);
    }
    rows.target_count = context_ * count;
    return rows;
  }
  int64_t rows_per_epoch() const override { return 61; }
  Counts counts() const override { return {61 * context_, 61 * context_}; }
  const std::string& key() const override { return key_; }

 private:
  int64_t context_;
  std::string key_ = "counting";
};

struct Outcome {
  std::vector<double> losses, norms;
  std::vector<float> weights;
};

// All steps of the recipe, on a golden and the rows above; on a device with graphs of its micro-batches or without.
inline Outcome train(const std::string& name, const Recipe& recipe, Device device = {}, bool graphs = true) {
  const LoadedModel loaded = trainable_golden(name, device);
  const RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
  Trainer trainer(*loaded.model, recipe, data, {recipe.training.steps, 0});
  if (trainer.graphs() != nullptr) trainer.graphs()->records = graphs;
  Outcome outcome;
  while (trainer.steps_done < recipe.training.steps) {
    const TrainingStep step = trainer.step();
    CHECK(step.skipped.empty());
    outcome.losses.push_back(step.loss);
    outcome.norms.push_back(step.gradient_norm);
  }
  outcome.weights = values(trainer.arena().values());
  return outcome;
}

}  // namespace lathe::test
