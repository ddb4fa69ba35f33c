// A training run: a folder that it is written into, from the recipe to the trained model.
//
//   DIR/recipe.yaml    every key, the names of the tensors that decay too
//       metrics.jsonl  a line a logged step
//       samples.jsonl  texts that the model writes on the way
//       checkpoints/   see train/checkpoint.h
//       tensorboard/   event files, where the recipe asks for them
//       data/          tokens, kept for the next start
//       reference*     of preferences, what the model that the run began with makes of them
//       model/         the model of the last step, a Hugging Face folder; or its adapter, in PEFT's form
//       report.html
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "llm/adapter_file.h"
#include "llm/load.h"
#include "train/recipe.h"
#include "train/trainer.h"

namespace lathe {

struct RunOptions {
  bool resume = false;  // go on from the newest checkpoint of the folder, from the start where it has none
  bool skip_bad_lines = false;
  // All of them run the same run, in a folder that they share; the first one writes it.
  Communicator* ranks = &Communicator::one();
  Device device = {};
};

// On the first rank; `stop` on all of them.
struct RunCallbacks {
  // What a user should know, one line.
  std::function<void(const std::string& line)> on_note = [](const std::string&) {};
  // Before the first step: those that are done already, and all of them.
  std::function<void(int64_t done, int64_t steps)> on_start = [](int64_t, int64_t) {};
  std::function<void(const TrainingStep& step, double tokens_per_second)> on_step = [](const TrainingStep&, double) {};
  // Asked after each step; true on one rank ends the run with a checkpoint.
  std::function<bool()> stop = [] { return false; };
};

// Returns false where `stop` ended it. Throws Error where the folder holds a run and `resume` is false, or another run
// than the recipe's; for data, weights or a recipe that cannot be used; and when something cannot be written, in which
// case the newest checkpoint is as it was.
bool run_training(const Recipe& recipe, const std::string& folder, const RunOptions& options,
                  const RunCallbacks& callbacks);

// The base of an adapter: how it is loaded, and the change beside its frozen weights, without values yet. Throws what
// attach_adapter of llm/adapter.h throws.
LoadOptions frozen_options(const TrainingRecipe& training, Device device = {});
void attach_adapter(CausalLM& model, const Recipe& recipe);

// The configuration of the model that a recipe trains.
ModelConfig training_config(const Recipe& recipe);
// The model that a recipe trains. A fresh one begins and ends a text with the tokens that `tokenizer` has for it, where
// there is one.
struct TrainingModel {
  LoadedModel loaded;               // of model.checkpoint
  std::unique_ptr<CausalLM> fresh;  // of model.config and model.architecture
  AdapterBase base;                 // where an adapter is trained
  CausalLM& model() const { return fresh ? *fresh : *loaded.model; }
};
// `ranks` share its weights out.
TrainingModel make_training_model(const Recipe& recipe, const Tokenizer* tokenizer = nullptr, Device device = {},
                                  Communicator& ranks = Communicator::one());

}  // namespace lathe
