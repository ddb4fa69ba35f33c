// Recipe: everything that a training run is made from, as the YAML file of docs/training.md says it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

struct ModelRecipe {
  // One of three: a YAML file under configs/ or a config.json (fresh weights); the keys of such a YAML file, as its
  // text; or anything that --model takes (weights to go on from).
  std::string config, architecture, checkpoint;
  double dropout = 0.0;
};

struct DataRecipe {
  enum class Format : uint8_t { text, completion, chat, preference };
  enum class Order : uint8_t { shuffled, sequential };
  std::vector<std::string> train, validation;  // files and folders
  double validation_share = 0.0;               // in place of files: the last share of train
  // "character", a file or folder with a vocabulary, or empty: the checkpoint's own.
  std::string tokenizer;
  int64_t tokenizer_vocab_size = 0;  // above 0: a byte-level BPE of so many tokens is trained on the data
  Format format = Format::text;
  Order order = Order::shuffled;
};

struct TrainingRecipe {
  enum class Dtype : uint8_t { float32, bfloat16 };
  enum class Recompute : uint8_t { none, block };
  Dtype dtype = Dtype::float32;
  int64_t context = 256;
  int64_t batch_size = 16;  // sequences a micro-batch, over all ranks
  int64_t accumulation = 1;
  int64_t steps = 0, tokens = 0;  // of one of steps, epochs and tokens, the others 0
  double epochs = 0.0;
  double clip = 1.0;  // 0: none
  // A step whose gradients' norm is so many times the median of the last ones' is skipped; 0: none is.
  double skip_above = 0.0;
  uint64_t seed = 1337;
  Recompute recompute = Recompute::none;
  std::optional<double> router_balance;  // empty: the model's own
  double dpo_beta = 0.1;                 // of preferences: how far the model may move from what it was
  // Processes that share each weight out: 1, where they share rows and the optimizer's states, or all of the
  // launcher's.
  int64_t tensor_parallel = 1;
};

struct OptimizerRecipe {
  enum class Name : uint8_t { adamw, sgd, muon };
  enum class Scale : uint8_t { spectral, rms };
  enum class States : uint8_t { float32, int8 };
  Name name = Name::adamw;
  double learning_rate = 3e-4;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;              // of matrices, tables and routers
  std::vector<std::string> decayed = {};  // names of these, as a resolved recipe has them; empty: not said
  double momentum = 0.95;                 // of sgd and muon
  bool nesterov = true;
  // Of Muon: the factor of an update of a matrix, and the coefficients and steps of Newton and Schulz's iteration.
  Scale scale = Scale::spectral;
  std::vector<double> coefficients = {3.4445, -4.7750, 2.0315};
  int64_t iterations = 5;
  States states = States::float32;
  // The moving average of weights that is evaluated and exported in their place: ema old + (1 - ema) new; 0: none.
  double ema = 0.0;
};

struct ScheduleRecipe {
  enum class Name : uint8_t { cosine, linear, constant, warmup_stable_decay };
  Name name = Name::cosine;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;  // of warmup_stable_decay, the last ones
  double final_learning_rate = 0.0;
};

// See AdapterConfig (llm/adapter.h).
struct AdapterRecipe {
  int64_t rank = 8;
  double alpha = 16.0, dropout = 0.0;
  bool rank_stabilised = false;
  std::vector<std::string> targets;  // where the recipe has a list
  std::string target_pattern;        // where it has one text: a regular expression, or all-linear
  std::vector<std::string> target_parameters;
};

struct EvaluationRecipe {
  int64_t every = 0;    // steps; 0: only at the end
  int64_t batches = 0;  // of batch_size sequences; 0: all of the validation data
};

struct CheckpointRecipe {
  int64_t every = 0;  // steps; 0: only at the end
  int64_t keep = 2;   // the newest
};

struct LoggingRecipe {
  int64_t every = 10;  // steps
  bool tensorboard = false;
  int64_t samples = 0;  // texts generated at each evaluation
};

struct Recipe {
  ModelRecipe model;
  DataRecipe data;
  TrainingRecipe training;
  OptimizerRecipe optimizer;
  ScheduleRecipe schedule;
  std::optional<AdapterRecipe> adapter;
  EvaluationRecipe evaluation;
  CheckpointRecipe checkpoint;
  LoggingRecipe logging;
};

// `settings` are "section.key=value" and come after what the file says. Throws Error naming file and line (or the
// setting), the key, what was found and what is expected; for a key that is not known, the nearest one.
Recipe read_recipe(const std::string& path, const std::vector<std::string>& settings = {});
// What a caller without a file says: only `settings`, everything else by default. `where` is named by errors.
Recipe recipe_of(const std::vector<std::string>& settings, const std::string& where);
// Whether a file is a recipe, by its section `training`: false for one that is no YAML.
bool is_recipe(const std::string& path);
// As a file of every key that is set, read_recipe gives the same from it.
std::string to_yaml(const Recipe& recipe);
// The keys that differ, among those that decide what is trained on what: a run that goes on must have them as they
// were.
std::vector<std::string> different_keys(const Recipe& a, const Recipe& b);

}  // namespace lathe
