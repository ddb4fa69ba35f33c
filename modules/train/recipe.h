// Recipe: everything that a training run is made from, as the YAML file of docs/training.md says it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

struct ModelRecipe {
  std::string config;        // a YAML file under configs/ or a config.json: fresh weights
  std::string architecture;  // the text of such a YAML file, from keys given inline
  std::string checkpoint;    // anything that --model takes: weights to go on from
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
  uint64_t seed = 1337;
  Recompute recompute = Recompute::none;
  std::optional<double> router_balance;  // empty: the model's own
};

struct OptimizerRecipe {
  enum class Name : uint8_t { adamw, sgd, muon };
  enum class Scale : uint8_t { spectral, rms };
  Name name = Name::adamw;
  double learning_rate = 3e-4;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;
  double momentum = 0.95;  // of sgd and muon
  bool nesterov = true;
  // Of Muon: the factor of an update of a matrix, and the coefficients and steps of Newton and Schulz's iteration.
  Scale scale = Scale::spectral;
  std::vector<double> coefficients = {3.4445, -4.7750, 2.0315};
  int64_t iterations = 5;
};

struct ScheduleRecipe {
  enum class Name : uint8_t { cosine, linear, constant, warmup_stable_decay };
  Name name = Name::cosine;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;  // of warmup_stable_decay, the last ones
  double final_learning_rate = 0.0;
};

struct AdapterRecipe {
  int64_t rank = 8;
  double alpha = 16.0, dropout = 0.0;
  std::vector<std::string> targets;
};

struct Recipe {
  std::string source;  // the file, for messages
  ModelRecipe model;
  DataRecipe data;
  TrainingRecipe training;
  OptimizerRecipe optimizer;
  ScheduleRecipe schedule;
  std::optional<AdapterRecipe> adapter;
  struct {
    int64_t every = 0, batches = 0;  // 0 batches: the whole of the validation data
  } evaluation;
  struct {
    int64_t every = 0, keep = 2;
  } checkpoint;
  struct {
    int64_t every = 10, samples = 0;
    bool tensorboard = false;
  } logging;
};

}  // namespace lathe
