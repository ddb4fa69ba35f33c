#include "train/training_plan.h"

#include "autograd/tape.h"
#include "llm/family.h"
#include "tensor/storage_forecast.h"
#include "train/run.h"
#include "train/training_speed.h"

namespace lathe {
namespace {

constexpr Device kPlan{Device::Kind::plan};

// The model of a recipe without elements.
std::unique_ptr<CausalLM> planned_model(const Recipe& recipe) {
  const ModelConfig config = training_config(recipe);
  std::unique_ptr<CausalLM> model = family_of(config).make(config);
  for (const NamedParameter& named : named_parameters(*model))
    named.parameter->value = Tensor::empty(named.parameter->shape, DType::f32, kPlan);
  return model;
}

TrainingRows full_rows(const TrainingRecipe& t) {
  TrainingRows rows;
  const int64_t tokens = t.batch_size * t.context;
  rows.tokens.assign(static_cast<size_t>(tokens), 0);
  rows.targets = rows.tokens;
  for (int64_t row = 0; row <= t.batch_size; ++row) rows.seq_start.push_back(static_cast<int32_t>(row * t.context));
  rows.target_count = tokens;
  return rows;
}

}  // namespace

TrainingPlan plan_training(const Recipe& recipe) {
  const auto flat = StorageForecast::make();
  TrainingPlan plan;
  std::unique_ptr<CausalLM> model;
  std::optional<ParameterArena> arena;
  std::optional<Optimizer> optimizer;
  {
    const Active<StorageForecast> active(flat.get());
    model = planned_model(recipe);
    arena.emplace(*model);
    optimizer.emplace(recipe.optimizer, *arena);
  }
  plan.parameters = count_parameters(*model);
  plan.trainable = arena->trainable_parameters();
  plan.weights = arena->values().bytes();
  plan.gradients = arena->gradients().bytes();
  for (const Optimizer::State& state : optimizer->states()) plan.states += state.values.bytes();
  plan.tokens_a_step = recipe.training.batch_size * recipe.training.accumulation * recipe.training.context;
  plan.operations_a_token = training_operations(*model, recipe.training.context);

  const TrainingRows rows = full_rows(recipe.training);
  const auto run = [&](bool records) {
    const auto pool = StorageForecast::make();
    const Active<StorageForecast> active(pool.get());
    // Each step finds the blocks that the one before it left; some steps on, all that it needs are there.
    constexpr int kMostSteps = 8;
    size_t peak = 0;
    for (int i = 0; i < kMostSteps && (i < 2 || pool->peak() > peak); ++i) {
      peak = pool->peak();
      Tape tape;
      MicroBatchLoss loss;
      {
        const Active<Tape> recording(records ? &tape : nullptr);
        loss = micro_batch_loss(*model, recipe, rows, rows.target_count);
      }
      if (!records) continue;
      tape.backward(loss.total);
      optimizer->step(1, recipe.optimizer.learning_rate, 1.0);
    }
    return pool->peak();
  };
  plan.step = run(true);
  plan.evaluation = run(false);
  return plan;
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
