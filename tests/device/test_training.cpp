// Training on an emulated device: its steps are the CPU's.
#include <fstream>

#include "tests/catch.h"
#include "tests/device/device.h"
#include "tests/support.h"
#include "tests/train/ragged_rows.h"
#include "train/run.h"

using namespace lathe;
using namespace lathe::test;

// Sums of some hundred products in other orders differ by some 1e-6 of their size; AdamW divides by the root of a small
// number, so a step carries on ten times that.
TEST_CASE("ten steps on a device are those of the CPU") {
  for (const char* name : {"llama_untied_gqa", "qwen3_untied", "mixtral", "gpt2", "gemma3"}) {
    INFO(name);
    Recipe recipe;
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
           "training: {context: 8, batch_size: 2, steps: 4}\ncheckpoint: {every: 2}\n"
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
