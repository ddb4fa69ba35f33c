// Training with the weights shared out: loss, gradients, steps and checkpoints are those of one rank.
//
// Compared with one rank, whose gradients tests/llm/test_goldens.cpp compares with transformers'. Both compute in f32;
// what differs is the order of sums over the columns that ranks have each: dx of q, k, v, gate, up and the head, which
// backward passes on. A sum of n products of f32 in another order is off by about sqrt(n) 2^-24 of its terms' size:
// with some hundred columns 6e-7, of the norm of a whole tensor rather less.
#include <cmath>
#include <functional>
#include <map>

#include "autograd/tape.h"
#include "config/model_config.h"
#include "llm/load.h"
#include "llm/tensor_parallel.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "tests/thread_ranks.h"
#include "tests/train/goldens.h"
#include "tests/train/uneven_rows.h"
#include "train/checkpoint.h"
#include "train/micro_batch.h"
#include "train/trainer.h"
#include "train/training_plan.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// What is trained by ranks that share the weights out, all of them there on the first rank.
struct SharedRun {
  std::string error = {};            // why it cannot be loaded
  std::vector<double> figures = {};  // of each step: loss, norm, update ratios
  std::vector<double> evaluations = {};
  std::map<std::string, std::vector<float>> tensors = {};  // gradients, or weights, by name
  std::vector<std::vector<float>> whole = {};              // of each parameter that this rank has all of
  size_t elements = 0;                                     // of the parameters, as this rank has them
  size_t arena_bytes = 0;                                  // of the trained ones
};

LoadOptions sharing(Communicator& ranks) {
  return {.dtype = ComputeDtype::float32, .trainable = true, .ranks = &ranks};
}

// f(rank, its run) on each of `size` ranks.
std::vector<SharedRun> on_ranks(int size, const std::function<void(Communicator&, SharedRun&)>& f) {
  std::vector<SharedRun> runs(static_cast<size_t>(size));
  if (size == 1)
    f(Communicator::one(), runs[0]);
  else
    ThreadRanks(size).run([&](Communicator& ranks) { f(ranks, runs[static_cast<size_t>(ranks.rank())]); });
  return runs;
}

void keep_tensors(CausalLM& model, SharedRun& run, bool gradients) {
  for (const NamedParameter& named : named_parameters(model)) {
    const Parameter& p = *named.parameter;
    const Tensor& own = gradients ? p.gradient() : p.value;
    const Tensor all = gather_rows(p, own);
    if (model.ranks->is_first()) run.tensors[named.name] = values(all);
    if (!p.is_part()) run.whole.push_back(values(own));
    run.elements += static_cast<size_t>(own.elements());
  }
}

// Loss and gradients of two sequences; backward through blocks that are computed again where asked.
std::vector<SharedRun> gradients_on(int size, const std::string& golden, bool recomputes) {
  return on_ranks(size, [&](Communicator& ranks, SharedRun& run) {
    LoadedModel loaded;
    try {
      loaded = load_model(golden_path(golden), sharing(ranks));
    } catch (const Error& e) {
      run.error = e.what();
      return;
    }
    CausalLM& model = *loaded.model;
    const TrainingRows rows = UnevenRows(loaded.checkpoint.config->vocab_size).rows(2, 2);
    const Tensor targets = Tensor::of<int32_t>({std::ssize(rows.targets)}, rows.targets.data());
    const auto recompute = recomputes ? TrainingRecipe::Recompute::block : TrainingRecipe::Recompute::none;
    Tape tape;
    Tensor total;
    {
      const Tape::Scope recording(tape);
      total = loss(model, make_training_batch(model, rows, recompute), targets);
    }
    tape.backward(total);
    sum_head_gradients(model);
    run.figures.push_back(static_cast<double>(total.host<float>()[0]));
    keep_tensors(model, run, true);
  });
}

// Euclidean norms, of a and of a - b.
double norm_of(const std::vector<float>& a) {
  double squares = 0.0;
  for (const float x : a) squares += static_cast<double>(x) * x;
  return std::sqrt(squares);
}
double distance(std::vector<float> a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return norm_of(a);
}

// Some gradients are sums that cancel (of a bias of keys all of it does), and are off by a rounding of what cancels,
// which is no larger than all gradients together.
void check_gradients(const SharedRun& shared, const SharedRun& one) {
  constexpr double kRounding = 0x1p-24;
  double whole = 0.0;
  for (const auto& [name, tensor] : one.tensors) whole = std::hypot(whole, norm_of(tensor));
  for (const auto& [name, tensor] : one.tensors) {
    INFO(name << " of norm " << norm_of(tensor) << ", all of " << whole);
    CHECK(distance(shared.tensors.at(name), tensor) <= 1e-6 * norm_of(tensor) + kRounding * whole);
  }
}

// Steps until `until`, on from the newest checkpoint of `folder` where there is one, and another checkpoint.
std::vector<SharedRun> train_on(int size, const std::string& golden, const Recipe& recipe, int64_t until,
                                const std::string& folder = {}) {
  return on_ranks(size, [&](Communicator& ranks, SharedRun& run) {
    const LoadedModel loaded = load_model(golden_path(golden), sharing(ranks));
    const UnevenRows data(loaded.checkpoint.config->vocab_size);
    Trainer trainer(*loaded.model, recipe, data, {recipe.training.steps, 0}, ranks);
    const std::string checkpoint = folder.empty() ? "" : newest_checkpoint(folder).value_or("");
    ranks.barrier();  // none writes before all have looked
    if (!checkpoint.empty()) load_checkpoint(checkpoint, trainer, data.key());
    run.arena_bytes = trainer.arena().values().bytes();
    while (trainer.steps_done < until) {
      const TrainingStep step = trainer.step(true);
      run.error += step.skipped;
      run.figures.insert(run.figures.end(), {step.loss, step.gradient_norm, step.update_ratios->matrices,
                                             step.update_ratios->tables, step.update_ratios->others});
    }
    if (!folder.empty())
      save_checkpoint(folder, trainer, {trainer.steps_done, trainer.updates_done, 0, 0, 0.0, data.key()}, 1);
    const AveragedWeights averaged(trainer);
    run.evaluations.push_back(evaluate_loss(*loaded.model, data, recipe.training.batch_size, 4, ranks).loss);
    keep_tensors(*loaded.model, run, false);
  });
}

Recipe shared_recipe(OptimizerRecipe::Name optimizer = OptimizerRecipe::Name::adamw) {
  Recipe r;
  r.training.batch_size = 2;
  r.training.accumulation = 2;
  r.training.clip = 0.5;  // active: the norms of these models are above it
  r.training.steps = 10;
  r.optimizer.name = optimizer;
  r.optimizer.learning_rate = 3e-3;
  return r;
}

void check_same_on_all(const std::vector<SharedRun>& ranks) {
  for (const SharedRun& rank : ranks) {
    CHECK(rank.error.empty());
    CHECK(rank.figures == ranks[0].figures);
    CHECK(rank.evaluations == ranks[0].evaluations);
    CHECK(rank.whole == ranks[0].whole);
  }
}

constexpr const char* kShared[] = {"llama_untied_gqa", "gpt2", "qwen3_untied", "mixtral", "olmo2"};

}  // namespace

TEST_CASE("ranks that share weights out have one rank's loss and gradients, for every golden") {
  for (const std::string& name : tried<std::string>(goldens(), 3)) {
    const SharedRun one = gradients_on(1, name, false)[0];
    for (const int size : {2, 4}) {
      const std::vector<SharedRun> ranks = gradients_on(size, name, size == 4);
      if (ranks[0].error.find("key-value head") != std::string::npos) continue;  // fewer of them
      INFO(name << " on " << size << " ranks");
      REQUIRE(ranks[0].error.empty());
      CHECK(worst_relative(ranks[0].figures, one.figures) < 1e-6);
      check_gradients(ranks[0], one);
      for (const SharedRun& rank : ranks) {
        CHECK(rank.figures == ranks[0].figures);
        CHECK(rank.whole == ranks[0].whole);  // to the bit
      }
    }
  }
}

// Other orders of f32 sums differ by about 1e-7, and ten steps carry that on; as ranks that share rows.
TEST_CASE("ten steps with the weights shared out are those of one rank, and repeat bit for bit") {
  for (const char* name : kShared) {
    const SharedRun one = train_on(1, name, shared_recipe(), 10)[0];
    const std::vector<SharedRun> two = train_on(2, name, shared_recipe(), 10);
    INFO(name);
    check_same_on_all(two);
    CHECK(worst_relative(two[0].figures, one.figures) < 1e-5);
    CHECK(worst_relative(two[0].evaluations, one.evaluations) < 1e-6);
    const std::vector<SharedRun> again = train_on(2, name, shared_recipe(), 10);
    CHECK(again[0].figures == two[0].figures);
    CHECK(again[0].tensors == two[0].tensors);
    // Half of all but norms, routers and positions, so less than two thirds; and all of it somewhere.
    CHECK(3 * two[0].elements < 2 * one.elements);
    CHECK(two[0].elements + two[1].elements >= one.elements);
    // What `lathe plan` says of a rank is what it has.
    Recipe planned = shared_recipe();
    planned.model.checkpoint = golden_path(name);
    planned.training.context = 30;
    planned.training.tensor_parallel = 2;
    const TrainingPlan plan = plan_training(planned);
    CHECK(plan.weights == two[1].arena_bytes);
    CHECK(plan.states == 2 * two[1].arena_bytes);
    CHECK(plan.parameters == static_cast<int64_t>(one.elements));
  }
}

TEST_CASE("SGD, an average of the weights and blocks that are computed again go with weights shared out") {
  for (const auto name : {OptimizerRecipe::Name::adamw, OptimizerRecipe::Name::sgd}) {
    Recipe recipe = shared_recipe(name);
    recipe.optimizer.ema = 0.9;
    const SharedRun one = train_on(1, "llama_untied_gqa", recipe, 6)[0];
    recipe.training.recompute = TrainingRecipe::Recompute::block;
    const std::vector<SharedRun> two = train_on(2, "llama_untied_gqa", recipe, 6);
    check_same_on_all(two);
    CHECK(worst_relative(two[0].figures, one.figures) < 1e-5);
    CHECK(worst_relative(two[0].evaluations, one.evaluations) < 1e-6);
  }
}

TEST_CASE("a run goes from one rank to two that share the weights out, and back") {
  for (const char* name : {"gpt2", "olmo2"}) {
    Recipe recipe = shared_recipe();
    recipe.optimizer.ema = 0.5;
    const SharedRun one = train_on(1, name, recipe, 9)[0];
    const TemporaryDirectory place;
    const std::string folder = place.path().string();
    std::vector<double> figures;
    SharedRun last;
    for (const auto& [size, until] : {std::pair{1, 3}, std::pair{2, 6}, std::pair{1, 9}}) {
      last = train_on(size, name, recipe, until, folder)[0];
      figures.insert(figures.end(), last.figures.begin(), last.figures.end());
    }
    INFO(name);
    CHECK(worst_relative(figures, one.figures) < 1e-5);
    CHECK(worst_relative(last.evaluations, one.evaluations) < 1e-6);
    // As many ranks as before: the same bits as without a pause.
    const TemporaryDirectory other;
    train_on(2, name, recipe, 4, other.path().string());
    CHECK(train_on(2, name, recipe, 9, other.path().string())[0].tensors == train_on(2, name, recipe, 9)[0].tensors);
  }
}
