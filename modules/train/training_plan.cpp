#include "train/training_plan.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <filesystem>

#include "autograd/tape.h"
#include "generate/inference_plan.h"
#include "llm/adapter.h"
#include "llm/family.h"
#include "llm/tensor_parallel.h"
#include "tensor/process_memory.h"
#include "tensor/storage_forecast.h"
#include "train/data_files.h"
#include "train/preference.h"
#include "train/run.h"
#include "train/training_speed.h"

namespace lathe {
namespace {

constexpr Device kPlan{Device::Kind::plan};

void give_shapes(const std::vector<NamedParameter>& parameters) {
  for (const NamedParameter& named : parameters)
    named.parameter->value = Tensor::empty(named.parameter->shape, DType::f32, kPlan);
}

// The last of some ranks that share weights out, which has the most of what does not divide evenly. Nothing is sent.
class PlannedRank : public Communicator {
 public:
  explicit PlannedRank(int64_t size) : size_(static_cast<int>(size)) {}
  int rank() const override { return size_ - 1; }
  int size() const override { return size_; }
  void exchange(std::span<const std::span<const std::byte>>, std::span<const std::span<std::byte>>) override {}
  void abort(int code) override { std::exit(code); }

 private:
  int size_;
};

// The model of a recipe without elements. One that is adapted stays as its loader packs it.
WeightPlan planned_model(const Recipe& recipe, Communicator& ranks) {
  if (recipe.adapter) {
    const TrainingRecipe& t = recipe.training;
    WeightPlan frozen = plan_weights(open_model(recipe.model.checkpoint), frozen_options(t),
                                     t.steps * t.accumulation * t.batch_size, t.context);
    attach_adapter(*frozen.model, recipe);
    give_shapes(adapter_parameters(*frozen.model));
    return frozen;
  }
  const ModelConfig config = training_config(recipe);
  WeightPlan fresh{make_rank_model(family_of(config), config, ranks, true)};
  give_shapes(named_parameters(*fresh.model));
  return fresh;
}

size_t data_bytes(const DataRecipe& data) {
  constexpr uintmax_t kId = sizeof(int32_t), kTextOfToken = 4;
  uintmax_t bytes = 0;
  for (const std::vector<std::string>& paths : {data.train, data.validation})
    for (const std::string& path : paths) {
      if (!std::filesystem::exists(path)) continue;
      for (const DataFile& file : list_data_files({path})) {
        const uintmax_t size = std::filesystem::file_size(file.path);
        bytes +=
            file.kind == DataFile::Kind::ids ? size : size * kId / (data.tokenizer == "character" ? 1 : kTextOfToken);
      }
    }
  return bytes;
}

// Rows as long as the context; of preferences two answers a row.
TrainingRows full_rows(const Recipe& recipe) {
  const TrainingRecipe& t = recipe.training;
  const int64_t sequences = t.batch_size * (recipe.data.format == DataRecipe::Format::preference ? 2 : 1);
  const int64_t tokens = sequences * t.context;
  TrainingRows rows;
  rows.tokens.assign(static_cast<size_t>(tokens), 0);
  rows.targets = rows.tokens;
  for (int64_t row = 0; row <= sequences; ++row) rows.seq_start.push_back(static_cast<int32_t>(row * t.context));
  rows.target_count = tokens;
  return rows;
}

// What `backward` begins with.
std::vector<Tape::Seed> forward(const CausalLM& model, const Recipe& recipe, const TrainingRows& rows) {
  if (recipe.data.format != DataRecipe::Format::preference) {
    const MicroBatchNumbers numbers = micro_batch_numbers(model, recipe, rows, rows.target_count, 1, 0);
    const MicroBatch m = make_micro_batch(model, recipe, rows, numbers);
    return micro_batch_loss(model, m).seeds(m.gradients);
  }
  const Tensor scores =
      answer_log_probabilities(model, make_training_batch(model, rows, recipe.training.recompute), rows);
  return {{scores, like(scores)}};
}

}  // namespace

TrainingPlan plan_training(const Recipe& recipe) {
  const auto flat = StorageForecast::make();
  TrainingPlan plan;
  PlannedRank ranks(recipe.training.tensor_parallel);
  WeightPlan placed;
  std::optional<ParameterArena> arena;
  std::optional<Optimizer> optimizer;
  {
    const Active<StorageForecast> active(flat.get());
    placed = planned_model(recipe, ranks);
    arena.emplace(*placed.model);
    optimizer.emplace(recipe.optimizer, *arena);
  }
  CausalLM& model = *placed.model;
  plan.parameters = count_parameters(model);
  plan.trainable = arena->trainable_parameters();
  plan.data = data_bytes(recipe.data);
  plan.frozen = placed.weights + placed.tables;
  plan.weights = arena->values().bytes();
  plan.gradients = arena->gradients().bytes();
  for (const Optimizer::State& state : optimizer->states()) plan.states += state.values.bytes();
  plan.tokens_a_step = recipe.training.batch_size * recipe.training.accumulation * recipe.training.context;
  plan.operations_a_token = training_operations(model, recipe.training.context);

  const TrainingRows rows = full_rows(recipe);
  const auto run = [&](bool records) {
    const auto pool = StorageForecast::make(Device{}, StoragePool::kNoLimit);
    const Active<StorageForecast> active(pool.get());
    // Each step finds the blocks that the one before it left; some steps on, all that it needs are there.
    constexpr int kMostSteps = 8;
    size_t peak = 0;
    for (int i = 0; i < kMostSteps && (i < 2 || pool->peak() > peak); ++i) {
      peak = pool->peak();
      {
        Tape tape;
        std::vector<Tape::Seed> seeds;
        {
          const Active<Tape> recording(records ? &tape : nullptr);
          seeds = forward(model, recipe, rows);
        }
        if (!records) continue;
        tape.backward(seeds);
      }
      optimizer->step(1, recipe.optimizer.learning_rate, 1.0);
    }
    return pool->peak();
  };
  plan.step = run(true);
  plan.evaluation = run(false);
  plan.loading = std::max(placed.loading, plan.frozen + 2 * plan.weights + plan.gradients);
  return plan;
}

StepsMemory::StepsMemory(const Recipe& recipe) {
  StoragePool::set_limit(StoragePool::kNoLimit);
  StoragePool::set_budget(plan_training(recipe).tensors());
}

StepsMemory::~StepsMemory() {
  StoragePool::set_budget(StoragePool::kNoLimit);
  StoragePool::set_limit(StoragePool::kDefaultLimit);
}

size_t measure_training_runtime(const Recipe& recipe) {
  Recipe small;
  // Products as deep and as wide as the blocks that kernels cut them into.
  small.model.architecture =
      "{architecture: GPT2LMHeadModel, vocab_size: 64, hidden_size: 128, intermediate_size: 1024, num_hidden_layers: "
      "1, "
      "num_attention_heads: 2, max_position_embeddings: 256}";
  small.training = recipe.training;
  small.training.context = std::min<int64_t>(recipe.training.context, 256);
  small.training.batch_size = 1024 / small.training.context + 1;
  small.training.accumulation = small.training.tensor_parallel = 1;
  small.optimizer = recipe.optimizer;
  small.optimizer.decayed.clear();
  measure_training_speed(small, 1);
  StoragePool::trim();
#if defined(__GLIBC__)
  malloc_trim(0);  // small blocks of the pool are malloc's
#endif
  return resident_memory();
}

std::optional<Recipe> fitting_recipe(const Recipe& recipe, size_t bytes) {
  Recipe r = recipe;
  const int64_t rows = recipe.training.batch_size * recipe.training.accumulation;
  for (const auto recompute : {TrainingRecipe::Recompute::none, TrainingRecipe::Recompute::block})
    for (int64_t batch = recipe.training.batch_size; batch > 0; --batch) {
      if (rows % batch != 0) continue;
      r.training.recompute = recompute;
      r.training.batch_size = batch;
      r.training.accumulation = rows / batch;
      if (plan_training(r).peak() <= bytes) return r;
    }
  return std::nullopt;
}

}  // namespace lathe
