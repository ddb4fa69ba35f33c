// Recipes: every key is read, bounded and written; what is misspelt is named.
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "train/recipe.h"
#include "train/run.h"
#include "train/schedule.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

const std::string kWholeRecipe =
    "model: {checkpoint: here}\n"
    "data: {train: [a.txt, b], validation: 0.25, tokenizer: {vocab_size: 4096}, order: sequential}\n"
    "training: {steps: 20, dtype: bfloat16, recompute: block, router_balance: 0.0}\n";

Recipe read(const std::string& text, const std::vector<std::string>& settings = {}) {
  const TemporaryDirectory folder;
  const auto path = folder.path() / "r.yaml";
  write_file(path, text);
  return read_recipe(path.string(), settings);
}

// Message and hint.
std::string refusal(const std::string& text, const std::vector<std::string>& settings = {}) {
  try {
    read(text, settings);
    return {};
  } catch (const Error& e) {
    return std::string(e.what()) + " | " + e.hint();
  }
}

}  // namespace

TEST_CASE("a recipe is read, and written so that it is read the same") {
  const Recipe r = read(kWholeRecipe, {"optimizer.name=muon", "data.validation=v.txt", "optimizer.learning_rate=2e-3"});
  CHECK(r.data.train == std::vector<std::string>{"a.txt", "b"});
  CHECK(r.data.validation == std::vector<std::string>{"v.txt"});
  CHECK(r.data.validation_share == 0.0);
  CHECK(r.data.tokenizer_vocab_size == 4096);
  CHECK(r.data.order == DataRecipe::Order::sequential);
  CHECK(r.training.dtype == TrainingRecipe::Dtype::bfloat16);
  CHECK(r.training.router_balance == 0.0);
  CHECK(r.optimizer.name == OptimizerRecipe::Name::muon);
  CHECK(r.optimizer.learning_rate == 2e-3);
  CHECK(r.checkpoint.keep == 2);
  const std::string text = to_yaml(r);
  CHECK(to_yaml(read(text)) == text);
  CHECK(different_keys(r, read(text)).empty());
}

TEST_CASE("an architecture given inline stays what it is") {
  const std::string inline_model =
      "model:\n  architecture: {architecture: LlamaForCausalLM, vocab_size: 128, rope_theta: 1.0e+4}\n"
      "data: {train: a.npy}\ntraining: {steps: 1}\n";
  const Recipe r = read(inline_model);
  CHECK_THAT(r.model.architecture, ContainsSubstring("vocab_size: 128"));
  CHECK(read(to_yaml(r)).model.architecture.size() > 0);
  CHECK(different_keys(r, read(to_yaml(r))).empty());
}

TEST_CASE("what is wrong in a recipe is named with its line and what is expected") {
  CHECK_THAT(refusal(kWholeRecipe + "optimiser: {name: sgd}\n"), ContainsSubstring("r.yaml:4") &&
                                                                     ContainsSubstring("'optimiser' is not known") &&
                                                                     ContainsSubstring("did you mean optimizer?"));
  CHECK_THAT(refusal(kWholeRecipe + "optimizer:\n  learning_rat: 1\n"),
             ContainsSubstring("r.yaml:5") && ContainsSubstring("did you mean optimizer.learning_rate?"));
  CHECK_THAT(refusal(kWholeRecipe, {"training.stepps=3"}), ContainsSubstring("did you mean training.steps?"));
  CHECK_THAT(refusal(kWholeRecipe, {"training.steps=many"}),
             ContainsSubstring("--set training.steps") && ContainsSubstring("'many', expected an integer"));
  CHECK_THAT(refusal(kWholeRecipe, {"training.batch_size=0"}), ContainsSubstring("expected a number of at least 1"));
  CHECK_THAT(refusal(kWholeRecipe, {"optimizer.beta2=1"}), ContainsSubstring("at least 0 and at most 0.9999999"));
  CHECK_THAT(refusal(kWholeRecipe, {"optimizer.learning_rate=.nan"}),
             ContainsSubstring("expected a number of at least 0"));
  CHECK_THAT(refusal(kWholeRecipe, {"optimizer.name=adam"}), ContainsSubstring("expected one of adamw, sgd, muon"));
  CHECK_THAT(refusal(kWholeRecipe, {"model.config=x.yaml"}), ContainsSubstring("expected one of model.config"));
  CHECK_THAT(refusal("model: {checkpoint: a}\ndata: {train: b}\n"), ContainsSubstring("training.steps"));
  CHECK_THAT(refusal(kWholeRecipe + "data: {format: text}\n"), ContainsSubstring("r.yaml:4: data appears twice"));
  CHECK_THAT(refusal(kWholeRecipe, {"nonsense"}), ContainsSubstring("expected section.key=value"));
}

TEST_CASE("the recipes of configs/ make models of their context") {
  size_t found = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source_dir() / "configs")) {
    if (!entry.is_regular_file() || !is_recipe(entry.path())) continue;
    INFO(entry.path());
    const Recipe recipe = read_recipe(entry.path().string(), {"training.seed=2"});
    if (recipe.model.architecture.find("50257") != std::string::npos) continue;  // takes a second to initialise
    const TrainingModel made = make_training_model(recipe);
    CHECK(made.model().sizes.max_position_embeddings >= recipe.training.context);
    ++found;
  }
  CHECK(found >= 4);
}

TEST_CASE("of steps, epochs and tokens the last one said counts") {
  const Recipe r = read(kWholeRecipe, {"training.epochs=2.5"});
  CHECK(r.training.steps == 0);
  CHECK(r.training.epochs == 2.5);
}

TEST_CASE("a run that goes on may be watched otherwise and may be longer, not trained otherwise") {
  const Recipe a = read(kWholeRecipe);
  CHECK(different_keys(a, read(kWholeRecipe, {"logging.every=1", "training.steps=30", "checkpoint.keep=5"})).empty());
  CHECK(different_keys(a, read(kWholeRecipe, {"training.seed=2"})) == std::vector<std::string>{"training.seed"});
  CHECK(different_keys(a, read(kWholeRecipe, {"data.train=c"})) == std::vector<std::string>{"data.train"});
}

TEST_CASE("schedules: the first step, the end of the warm-up, the last step") {
  using Name = ScheduleRecipe::Name;
  const auto rate = [](Name name, int64_t warmup, int64_t step, int64_t decay = 0) {
    return learning_rate({name, warmup, decay, 1e-4}, 1e-3, step, 100);
  };
  for (const Name name : {Name::cosine, Name::linear, Name::constant, Name::warmup_stable_decay}) {
    const double last = name == Name::constant ? 1e-3 : 1e-4;
    CHECK(rate(name, 10, 1, 20) == Approx(1e-4));
    CHECK(rate(name, 10, 10, 20) == Approx(1e-3));
    CHECK(rate(name, 10, 100, 20) == Approx(last));
    CHECK(rate(name, 0, 100, 20) == Approx(last));  // no warm-up
    CHECK(rate(name, 1, 1, 20) == Approx(1e-3));
    CHECK(rate(name, 100, 100, 20) == Approx(1e-3));  // nothing but warm-up
    CHECK(rate(name, 100, 50, 20) == Approx(5e-4));
  }
  // Half-way: the mean of peak and end, for the cosine as for the line.
  CHECK(rate(Name::cosine, 10, 55) == Approx(5.5e-4));
  CHECK(rate(Name::linear, 10, 55) == Approx(5.5e-4));
  CHECK(rate(Name::cosine, 0, 1) == Approx(1e-4 + 9e-4 * (1 + std::cos(3.14159265358979 / 100)) / 2));
  CHECK(rate(Name::warmup_stable_decay, 10, 80, 20) == Approx(1e-3));
  CHECK(rate(Name::warmup_stable_decay, 10, 90, 20) == Approx(5.5e-4));
}
