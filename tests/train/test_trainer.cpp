// The laws of a training step: what is one step stays one step, however its rows are cut, kept or resumed.
#include <cmath>

#include "autograd/tape.h"
#include "llm/load.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "tests/train/goldens.h"
#include "tests/train/ragged_rows.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

Recipe recipe_of(int64_t batch, int64_t accumulation, int64_t steps = 6) {
  Recipe r;
  r.training.batch_size = batch;
  r.training.accumulation = accumulation;
  r.training.clip = 0.5;  // active: the norms of these models are above it
  r.training.router_balance = 0.0;
  r.optimizer.learning_rate = 3e-3;
  r.schedule.warmup_steps = 2;
  r.training.steps = steps;
  return r;
}

}  // namespace

TEST_CASE("a step is one sum of losses over one count of targets, however its rows are cut") {
  // Sums of some thousand products in other orders differ by about sqrt(1000) * 6e-8 of their size, and six steps of
  // AdamW carry that on: 1e-6 is the law's bound.
  for (const char* name : {"llama_untied_gqa", "gpt2"}) {
    const Outcome whole = train(name, recipe_of(12, 1));
    for (const auto& [batch, accumulation] : {std::pair{3, 4}, std::pair{1, 12}}) {
      const Outcome cut = train(name, recipe_of(batch, accumulation));
      CHECK(worst_relative(cut.losses, whole.losses) < 1e-6);
      CHECK(worst_relative(cut.norms, whole.norms) < 1e-6);
    }
  }
}

TEST_CASE("blocks that are computed again give the same bits, with dropout and experts too") {
  for (const char* name : {"llama_untied_gqa", "mixtral", "gpt_neox", "gemma3"}) {
    Recipe recipe = recipe_of(4, 1, 3);
    recipe.training.router_balance = 0.02;
    recipe.model.dropout = 0.1;
    const Outcome kept = train(name, recipe);
    recipe.training.recompute = TrainingRecipe::Recompute::block;
    const Outcome again = train(name, recipe);
    INFO(name);
    CHECK(kept.losses == again.losses);
    CHECK(kept.norms == again.norms);
    CHECK(kept.weights == again.weights);
  }
}

TEST_CASE("a hundred bf16 steps at a small learning rate move the weights that float32 moves") {
  // Steps of 1e-5 vanish beside half of bf16's spacing, 2^-9 of a weight: only masters in float32 add them up.
  Recipe recipe = recipe_of(4, 1, 100);
  recipe.optimizer.learning_rate = 1e-5;
  recipe.schedule.warmup_steps = 0;
  for (const char* name : {"llama_untied_gqa", "gpt2"}) {
    const std::vector<float> before = train(name, recipe_of(4, 1, 0)).weights;
    recipe.training.dtype = TrainingRecipe::Dtype::float32;
    const Outcome exact = train(name, recipe);
    recipe.training.dtype = TrainingRecipe::Dtype::bfloat16;
    const Outcome mixed = train(name, recipe);
    size_t moved = 0, too = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      moved += exact.weights[i] != before[i];
      too += exact.weights[i] != before[i] && mixed.weights[i] != before[i];
    }
    INFO(name << ": " << too << " of " << moved << " of " << before.size());
    CHECK(moved > before.size() / 2);
    CHECK(static_cast<double>(too) >= 0.95 * static_cast<double>(moved));
    CHECK(mixed.losses != exact.losses);
    CHECK(worst_relative(mixed.losses, exact.losses) < 0.01);
  }
}

TEST_CASE("dropout changes training and nothing else") {
  Recipe recipe = recipe_of(4, 1, 2);
  const Outcome without = train("llama_untied_gqa", recipe);
  recipe.model.dropout = 0.2;
  const LoadedModel loaded = trainable_golden("llama_untied_gqa");
  const RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
  const double before = evaluate_loss(*loaded.model, data, 4, 3).loss;
  Trainer trainer(*loaded.model, recipe, data, {2, 0});
  CHECK(evaluate_loss(*loaded.model, data, 4, 3).loss == before);
  CHECK(trainer.step().loss != without.losses[0]);
  CHECK(evaluate_loss(*loaded.model, data, 4, 3).loss == evaluate_loss(*loaded.model, data, 4, 3).loss);
}

TEST_CASE("the balance of experts pulls at the router") {
  Recipe recipe = recipe_of(4, 1, 1);
  const Outcome without = train("mixtral", recipe);
  recipe.training.router_balance = 1.0;
  const Outcome with = train("mixtral", recipe);
  CHECK(with.losses == without.losses);  // reported apart
  CHECK(with.norms != without.norms);
}

TEST_CASE("a run goes on from a checkpoint with the same bits, by every optimizer and kind of states") {
  using O = OptimizerRecipe;
  for (const auto& [model, states] : {std::pair{"qwen3_untied", O::States::float32}, std::pair{"mpt", O::States::int8}})
    for (const auto name : {O::Name::adamw, O::Name::sgd, O::Name::muon}) {
      Recipe recipe = recipe_of(2, 2);
      recipe.optimizer.name = name;
      recipe.optimizer.states = states;
      const Outcome whole = train(model, recipe);
      const TemporaryDirectory folder;
      for (int64_t from = 0; from < 6; from += 2) {  // each time a model that knows nothing
        const LoadedModel loaded = trainable_golden(model);
        const RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
        Trainer trainer(*loaded.model, recipe, data, {6, 0});
        const auto checkpoint = newest_checkpoint(folder.path().string());
        CHECK(checkpoint.has_value() == (from > 0));
        if (checkpoint) CHECK(load_checkpoint(*checkpoint, trainer, data.key()).steps == from);
        for (int64_t i = from; i < from + 2; ++i)  // measuring changes no bit
          CHECK(trainer.step(i % 2 == 0).loss == whole.losses[static_cast<size_t>(i)]);
        save_checkpoint(folder.path().string(), trainer,
                        {trainer.steps_done, trainer.updates_done, 0, 0, 0.0, data.key()}, 1);
        if (from == 4) CHECK(values(trainer.arena().values()) == whole.weights);
      }
    }
}

TEST_CASE("checkpoints: the newest ones stay, a half-written one is none, another run's is refused") {
  const LoadedModel loaded = trainable_golden("gpt2");
  const RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
  Trainer trainer(*loaded.model, recipe_of(2, 1), data, {6, 0});
  const TemporaryDirectory place;
  const std::string folder = place.path().string();
  for (int64_t step = 1; step <= 4; ++step) save_checkpoint(folder, trainer, {step, step, 0, 0, 0.0, "ragged"}, 2);
  CHECK_FALSE(std::filesystem::exists(place.path() / "step-00000002"));
  CHECK(std::filesystem::exists(place.path() / "step-00000003"));
  std::filesystem::create_directory(place.path() / "step-00000009.1-2.partial");
  REQUIRE(newest_checkpoint(folder) == (place.path() / "step-00000004").string());
  CHECK_FALSE(std::filesystem::exists(place.path() / "step-00000009.1-2.partial"));
  CHECK_THROWS_WITH(load_checkpoint(*newest_checkpoint(folder), trainer, "other"), ContainsSubstring("data ragged"));
  const LoadedModel other = trainable_golden("llama_untied_gqa");
  Trainer stranger(*other.model, recipe_of(2, 1), data, {6, 0});
  CHECK_THROWS_WITH(load_checkpoint(*newest_checkpoint(folder), stranger, "ragged"),
                    ContainsSubstring("k_proj.weight") && ContainsSubstring("expected (16, 32)"));
}

TEST_CASE("a checkpoint with the other kind of states is refused by name") {
  const LoadedModel loaded = trainable_golden("gpt2");
  const RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
  for (const auto states : {OptimizerRecipe::States::float32, OptimizerRecipe::States::int8}) {
    Recipe recipe = recipe_of(2, 1);
    recipe.optimizer.states = states;
    const TemporaryDirectory place;
    {
      Trainer trainer(*loaded.model, recipe, data, {6, 0});
      save_checkpoint(place.path().string(), trainer, {1, 1, 0, 0, 0.0, "ragged"}, 1);
    }
    const bool was_coded = states == OptimizerRecipe::States::int8;
    recipe.optimizer.states = was_coded ? OptimizerRecipe::States::float32 : OptimizerRecipe::States::int8;
    Trainer other(*loaded.model, recipe, data, {6, 0});
    CHECK_THROWS_WITH(load_checkpoint(*newest_checkpoint(place.path().string()), other, "ragged"),
                      ContainsSubstring(was_coded ? "states: int8, expected those of float32"
                                                  : "states: float32, expected those of int8"));
  }
}

TEST_CASE("states of 8 bits learn what float32 learns") {
  // An update errs by what its states err by: an element as large as its block's largest by some 5%, one of a
  // hundredth of it by some 20%, with mean zero and apart from the others'. Over n elements a step's fall of the loss
  // errs by 20% / sqrt(n), for n = 20,000 by 0.2%: 2% is ten times that.
  for (const auto name : {OptimizerRecipe::Name::adamw, OptimizerRecipe::Name::muon}) {
    Recipe recipe = recipe_of(6, 1, 60);
    recipe.optimizer.name = name;
    recipe.optimizer.beta2 = 0.999;
    const Outcome exact = train("gpt2", recipe);
    recipe.optimizer.states = OptimizerRecipe::States::int8;
    const Outcome coded = train("gpt2", recipe);
    CHECK(coded.weights != exact.weights);
    const double fall = exact.losses.front() - exact.losses.back();
    INFO(exact.losses.front() << " to " << exact.losses.back() << " and " << coded.losses.back());
    CHECK(fall > 0.1);
    CHECK(std::abs(coded.losses.back() - exact.losses.back()) < 0.02 * fall);
  }
}

TEST_CASE("a step that is not finite changes no weight and names the first activation or gradient") {
  const LoadedModel loaded = trainable_golden("llama_untied_gqa");
  const RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
  Trainer trainer(*loaded.model, recipe_of(2, 1), data, {6, 0});
  CHECK(trainer.step().skipped.empty());
  const std::vector<float> before = values(trainer.arena().values());
  std::vector<NamedParameter> parameters = named_parameters(*loaded.model);
  const auto up = std::find_if(parameters.begin(), parameters.end(),
                               [](const NamedParameter& p) { return p.name == "model.layers.1.mlp.up_proj.weight"; });
  REQUIRE(up != parameters.end());
  float& broken = up->parameter->value.host<float>()[3];
  const float kept = std::exchange(broken, NAN);
  const TrainingStep step = trainer.step();
  CHECK(step.skipped == "the activation model.layers.1.mlp.up is nan at element 0");
  CHECK_FALSE(std::isfinite(step.gradient_norm));
  broken = kept;
  CHECK(values(trainer.arena().values()) == before);
  CHECK(trainer.steps_done == 2);
  CHECK(trainer.updates_done == 1);
  CHECK(trainer.step().skipped.empty());  // the gradients are zero again
}

TEST_CASE("a step without a target is skipped") {
  const LoadedModel loaded = trainable_golden("llama_untied_gqa");
  RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
  data.silent = true;
  Trainer trainer(*loaded.model, recipe_of(2, 1), data, {6, 0});
  CHECK_THAT(trainer.step().skipped, ContainsSubstring("none of its rows has a target"));
}

TEST_CASE("a run by epochs ends with its last row") {
  const LoadedModel loaded = trainable_golden("llama_untied_gqa");
  const RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
  Recipe recipe = recipe_of(10, 2);
  recipe.training.steps = 0;
  recipe.training.epochs = 1.0;
  const TrainingLength length = training_length(recipe.training, data);
  CHECK(length.rows == 37);
  CHECK(length.steps == 2);
  Trainer trainer(*loaded.model, recipe, data, length);
  CHECK(trainer.step().tokens == 400);
  CHECK(trainer.step().tokens == 340);
}

TEST_CASE("packed documents are apart: another first document leaves the second one's loss and gradients alone") {
  for (const char* name : {"llama_untied_gqa", "mpt", "gpt2"}) {  // rotary, ALiBi, learned positions
    const LoadedModel loaded = trainable_golden(name);
    const auto gradients = [&](int32_t first_token) {
      TrainingRows rows;
      rows.tokens = {first_token, 2, 3, 4, 11, 12, 13, 14, 15};
      rows.targets = {kIgnoredTarget, kIgnoredTarget, kIgnoredTarget, kIgnoredTarget, 12, 13, 14, 15, 16};
      rows.seq_start = {0, 4, 9};
      rows.target_count = 5;
      for (const NamedParameter& p : named_parameters(*loaded.model)) p.parameter->grad = {};
      Tape tape;
      Tensor l;
      {
        const Tape::Scope recording(tape);
        l = loss(*loaded.model, make_training_batch(*loaded.model, rows),
                 Tensor::of<int32_t>({9}, rows.targets.data()));
      }
      tape.backward(l);
      std::vector<float> all = values(l);
      for (const NamedParameter& p : named_parameters(*loaded.model)) {
        const std::vector<float> g = values(p.parameter->gradient());
        all.insert(all.end(), g.begin(), g.end());
      }
      return all;
    };
    INFO(name);
    CHECK(gradients(1) == gradients(30));
  }
}

TEST_CASE("what decays: matrices, tables and routers of every family, and nothing else") {
  for (const char* name : {"llama_untied_gqa", "gpt2", "mixtral", "gemma3", "qwen2_windowed_layers", "mpt"}) {
    const LoadedModel loaded = trainable_golden(name);
    const ParameterArena arena(*loaded.model);
    for (const ParameterArena::Slice& s : arena.slices()) {
      INFO(name << " " << s.name);
      CHECK(s.decays == (s.parameter->shape.rank() == 2));
      CHECK(s.matrix == (s.decays && s.name.find("embed") == std::string::npos &&
                         s.name.find("lm_head") == std::string::npos && !s.name.ends_with("mlp.gate.weight")));
    }
  }
}

TEST_CASE("a moving average of the weights is kept beside them, shown on request, and goes on from a checkpoint") {
  Recipe recipe = recipe_of(4, 1);
  recipe.optimizer.ema = 0.8;
  const LoadedModel loaded = trainable_golden("llama_untied_gqa");
  const RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
  Trainer trainer(*loaded.model, recipe, data, {6, 0});
  const Outcome without = train("llama_untied_gqa", recipe_of(4, 1));
  std::vector<double> expected;
  const TemporaryDirectory place;
  const std::string folder = place.path().string();
  while (trainer.steps_done < 6) {
    trainer.step();
    const std::vector<float> now = values(trainer.arena().values());
    if (expected.empty()) expected.assign(now.begin(), now.end());
    for (size_t i = 0; i < now.size(); ++i) expected[i] = 0.8 * expected[i] + 0.2 * static_cast<double>(now[i]);
    if (trainer.steps_done == 3) save_checkpoint(folder, trainer, {3, 3, 0, 0, 0.0, data.key()}, 1);
  }
  CHECK(values(trainer.arena().values()) == without.weights);  // the steps know nothing of it
  std::vector<float> average;
  {
    const AveragedWeights averaged(trainer);
    average = values(trainer.arena().values());
  }
  CHECK(values(trainer.arena().values()) == without.weights);
  double worst = 0.0;
  for (size_t i = 0; i < average.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(average[i]) - expected[i]));
  CHECK(worst < 1e-6);  // roundings of f32 below 2, a few of them
  const LoadedModel again = trainable_golden("llama_untied_gqa");
  Trainer resumed(*again.model, recipe, data, {6, 0});
  load_checkpoint(*newest_checkpoint(folder), resumed, data.key());
  while (resumed.steps_done < 6) resumed.step();
  const AveragedWeights averaged(resumed);
  CHECK(values(resumed.arena().values()) == average);
}

TEST_CASE("a step with an outlying gradient is skipped, also by a run that goes on") {
  Recipe recipe = recipe_of(3, 1, 30);
  recipe.training.skip_above = 1.5;
  const auto skipped_steps = [&](int64_t pause) {
    const LoadedModel loaded = trainable_golden("llama_untied_gqa");
    RaggedRows data(static_cast<int32_t>(loaded.model->sizes.vocab_size));
    std::optional<LoadedModel> reloaded;
    auto trainer = std::make_unique<Trainer>(*loaded.model, recipe, data, TrainingLength{30, 0});
    std::vector<int64_t> skipped;
    const TemporaryDirectory place;
    while (trainer->steps_done < 30) {
      if (trainer->steps_done == 14)  // as a broken record would
        trainer->arena().gradients().host<float>()[3] = 100.0f;
      const std::vector<float> before = values(trainer->arena().values());
      const TrainingStep step = trainer->step();
      if (!step.skipped.empty()) {
        skipped.push_back(step.number);
        CHECK_THAT(step.skipped, ContainsSubstring("the norm of its gradients is 100"));
        CHECK(values(trainer->arena().values()) == before);
      }
      if (trainer->steps_done != pause) continue;
      save_checkpoint(place.path().string(), *trainer, {pause, trainer->updates_done, 0, 0, 0.0, data.key()}, 1);
      reloaded.emplace(trainable_golden("llama_untied_gqa"));
      trainer = std::make_unique<Trainer>(*reloaded->model, recipe, data, TrainingLength{30, 0});
      load_checkpoint(*newest_checkpoint(place.path().string()), *trainer, data.key());
    }
    return skipped;
  };
  CHECK(skipped_steps(0) == std::vector<int64_t>{15});
  CHECK(skipped_steps(13) == std::vector<int64_t>{15});
}
