// Training on an emulated device: its steps are the CPU's.
#include <fstream>

#include "tensor/cuda.h"
#include "tensor/stream.h"
#include "tests/catch.h"
#include "tests/device/device.h"
#include "tests/support.h"
#include "tests/train/ragged_rows.h"
#include "train/checkpoint.h"
#include "train/run.h"

using namespace lathe;
using namespace lathe::test;

// Sums of some hundred products in other orders differ by some 1e-6 of their size; AdamW divides by the root of a small
// number, so a step carries on ten times that.
TEST_CASE("ten steps on a device are those of the CPU") {
  static constexpr const char* kModels[] = {"mixtral", "llama_untied_gqa", "qwen3_untied", "gpt2", "gemma3"};
  for (const char* name : tried<const char*>(kModels, 3)) {
    INFO(name);
    Recipe recipe;
    recipe.training.context = 20;
    recipe.training.batch_size = 2;
    recipe.training.accumulation = 2;
    recipe.training.clip = 0.5;
    recipe.training.router_balance = 0.02;
    recipe.optimizer.learning_rate = 3e-3;
    recipe.schedule.warmup_steps = 2;
    recipe.training.steps = 10;
    const Outcome cpu = train(name, recipe, Device{}), cuda = train(name, recipe, kCudaDevice);
    CHECK(worst_relative(cuda.losses, cpu.losses) < 1e-5);
    CHECK(worst_relative(cuda.norms, cpu.norms) < 1e-4);
  }
}

TEST_CASE("a step on a device repeats bit for bit, with dropout, recomputation and bfloat16 products too") {
  Recipe recipe;
  recipe.training.context = 20;
  recipe.training.batch_size = 2;
  recipe.training.steps = 3;
  recipe.training.dtype = TrainingRecipe::Dtype::bfloat16;
  recipe.model.dropout = 0.1;
  const Outcome once = train("llama_untied_gqa", recipe, kCudaDevice);
  CHECK(train("llama_untied_gqa", recipe, kCudaDevice).losses == once.losses);
  recipe.training.recompute = TrainingRecipe::Recompute::block;
  const Outcome again = train("llama_untied_gqa", recipe, kCudaDevice);
  CHECK(again.losses == once.losses);
  CHECK(again.norms == once.norms);
}

// Rows of 20 tokens fill a context of 20, so that forms differ from the rows by empty sequences alone; in one of 32
// they are padded with tokens too.
TEST_CASE("twenty steps of recorded micro-batches are those that run kernel by kernel, bit for bit") {
  struct Case {
    std::string golden;
    int64_t context, accumulation;
    double dropout;
  };
  const Case cases[] = {{"gpt2", 32, 1, 0.1}, {"llama_untied_gqa", 20, 2, 0.0}};
  for (const Case& c : tried<Case>(cases, 2)) {
    INFO(c.golden);
    Recipe recipe;
    recipe.training.context = c.context;
    recipe.training.batch_size = 1;
    recipe.training.accumulation = c.accumulation;
    recipe.training.steps = 20;
    recipe.training.clip = 0.5;
    recipe.model.dropout = c.dropout;
    recipe.schedule.warmup_steps = 5;
    const Outcome eager = train(c.golden, recipe, kCudaDevice, false);
    const Graph::Counts before = Graph::counts();
    const Outcome replayed = train(c.golden, recipe, kCudaDevice);
    const Graph::Counts after = Graph::counts();
    CHECK(replayed.losses == eager.losses);
    CHECK(replayed.norms == eager.norms);
    CHECK(replayed.weights == eager.weights);
    // A row has 1 to 5 documents: forms of 1, 2, 4 and 8 sequences.
    CHECK(after.recorded - before.recorded <= 4);
    CHECK(after.recorded - before.recorded + after.replayed - before.replayed == 20 * c.accumulation);
  }
}

TEST_CASE("texts whose rotary frequencies are not those of the context are trained kernel by kernel") {
  Recipe recipe;
  recipe.training.context = 40;  // behind the 24 positions of the model, so that all longer texts differ
  recipe.training.batch_size = 1;
  for (const int64_t length : {32, 40}) {
    const LoadedModel loaded = trainable_golden("llama_dynamic", kCudaDevice);
    const CountingRows data(length);
    Trainer trainer(*loaded.model, recipe, data, {3, 0});
    for (int step = 0; step < 3; ++step) trainer.step();
    CHECK(trainer.graphs()->counts().replayed == (length == 40 ? 2 : 0));
    CHECK(trainer.graphs()->why_not().empty());
  }
}

TEST_CASE("experts, recomputed blocks and bfloat16 products are recorded too") {
  Recipe recipe;
  recipe.training.context = 20;
  recipe.training.batch_size = 1;
  recipe.training.steps = 6;  // of 1, 2, 3, 4, 5 and 1 documents: two forms come again
  recipe.training.router_balance = 0.02;
  recipe.training.recompute = TrainingRecipe::Recompute::block;
  recipe.training.dtype = TrainingRecipe::Dtype::bfloat16;
  const Outcome eager = train("mixtral", recipe, kCudaDevice, false);
  const int64_t replayed = Graph::counts().replayed;
  const Outcome recorded = train("mixtral", recipe, kCudaDevice);
  CHECK(Graph::counts().replayed - replayed == 2);
  CHECK(recorded.losses == eager.losses);
  CHECK(recorded.weights == eager.weights);
}

namespace {

// An adapter on a golden, over rows of one form.
struct AdaptedRun {
  static Recipe recipe_of(const std::string& golden) {
    Recipe r;
    r.model.checkpoint = golden_path(golden);
    r.adapter.emplace();
    r.adapter->rank = 2;
    r.adapter->dropout = 0.2;
    r.adapter->targets = {"q_proj", "down_proj", "lm_head"};
    r.training.context = 8;
    r.training.batch_size = 2;
    r.training.accumulation = 2;
    r.training.steps = 20;
    return r;
  }

  Recipe recipe;
  TrainingModel made = make_training_model(recipe, nullptr, kCudaDevice);
  CountingRows data{8};
  Trainer trainer{made.model(), recipe, data, {20, 0}};
  std::vector<double> losses = {};

  explicit AdaptedRun(Recipe r, bool graphs = true) : recipe(std::move(r)) { trainer.graphs()->records = graphs; }
  void until(int64_t step) {
    while (trainer.steps_done < step) losses.push_back(trainer.step().loss);
  }
  std::vector<float> weights() const { return values(trainer.arena().values()); }
};

}  // namespace

TEST_CASE("an adapter's steps are recorded once, neither record nor allocate afterwards, and go on from a checkpoint") {
  const Recipe recipe = AdaptedRun::recipe_of("llama_untied_gqa");
  AdaptedRun eager(recipe, false), whole(recipe);
  eager.until(20);
  whole.until(2);
  const int64_t allocations = cuda::memory(kCudaDevice).allocations;
  whole.until(10);
  const TemporaryDirectory folder;
  save_checkpoint(folder.path().string(), whole.trainer, {10, 10, 0, 0, 0.0, whole.data.key()}, 1);
  whole.until(20);
  CHECK(cuda::memory(kCudaDevice).allocations == allocations);
  const StepGraphs::Counts& counts = whole.trainer.graphs()->counts();
  CHECK(counts.recorded == 1);
  CHECK(counts.replayed == 39);
  CHECK(counts.by_kernel == 1);
  CHECK(whole.losses == eager.losses);
  CHECK(whole.weights() == eager.weights());

  AdaptedRun resumed(recipe);
  load_checkpoint(*newest_checkpoint(folder.path().string()), resumed.trainer, resumed.data.key());
  resumed.until(20);
  REQUIRE(resumed.losses.size() == 10);
  CHECK(std::equal(resumed.losses.begin(), resumed.losses.end(), eager.losses.begin() + 10));
  CHECK(resumed.weights() == eager.weights());
}

TEST_CASE("what waits for the device is trained kernel by kernel, and says why") {
  Recipe recipe = AdaptedRun::recipe_of("mixtral");
  recipe.adapter->targets = {"o_proj"};
  recipe.adapter->target_parameters = {"experts.gate_up_proj"};
  recipe.adapter->dropout = 0.0;
  AdaptedRun eager(recipe, false), recorded(recipe);
  eager.until(3);
  recorded.until(3);
  CHECK(recorded.losses == eager.losses);
  CHECK(recorded.weights() == eager.weights());
  CHECK(recorded.trainer.graphs()->counts().by_kernel == 6);
  CHECK(!recorded.trainer.graphs()->why_not().empty());
}

TEST_CASE("a run on a device that is stopped and resumed ends with the bits of one that was not, and exports them") {
  const TemporaryDirectory folder;
  std::ofstream(folder.path() / "text.txt") << std::string(40, 'a') + "the quick brown fox jumps over the lazy dog; " +
                                                   std::string(30, 'b') + " pack my box with five dozen liquor jugs";
  const auto recipe_with = [&](const std::string& name) {
    std::ofstream(folder.path() / (name + ".yaml"))
        << "model:\n  architecture: {architecture: LlamaForCausalLM, vocab_size: 40, hidden_size: 16, "
           "num_hidden_layers: 1,\n"
           "    num_attention_heads: 2, intermediate_size: 24, max_position_embeddings: 16}\n"
           "data: {train: "
        << (folder.path() / "text.txt").string()
        << ", tokenizer: character}\n"
           "training: {context: 8, batch_size: 2, steps: 4, dtype: bfloat16}\ncheckpoint: {every: 2}\n"
           "logging: {every: 1, samples: 0, tensorboard: false}\n";
    return read_recipe((folder.path() / (name + ".yaml")).string());
  };
  const auto run = [&](const std::string& name, bool resume, int64_t last) {
    RunCallbacks callbacks;
    int64_t done = 0;
    callbacks.on_step = [&](const TrainingStep& step, double) { done = step.number; };
    callbacks.stop = [&] { return done == last; };
    RunOptions options;
    options.resume = resume;
    options.device = kCudaDevice;
    return run_training(recipe_with(name), (folder.path() / name).string(), options, callbacks);
  };
  CHECK(run("whole", false, 4));
  CHECK_FALSE(run("stopped", false, 2));
  CHECK(run("stopped", true, 4));
  const auto weights = [&](const std::string& name) {
    return read_file((folder.path() / name / "model" / "model.safetensors").string());
  };
  CHECK(!weights("whole").empty());
  CHECK(weights("whole") == weights("stopped"));
}
