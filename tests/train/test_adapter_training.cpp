// Training an adapter: the base keeps every bit, the adapter is all that is trained, kept and resumed.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "llm/adapter_file.h"
#include "llm/export.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "tests/train/ragged_rows.h"
#include "train/checkpoint.h"
#include "train/run.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

Recipe recipe_of(const std::string& checkpoint, const std::vector<std::string>& targets, int64_t steps) {
  Recipe r;
  r.model.checkpoint = checkpoint;
  r.adapter.emplace();
  r.adapter->rank = 4;
  r.adapter->targets = targets;
  r.training.batch_size = 4;
  r.training.steps = steps;
  r.optimizer.learning_rate = 1e-2;
  return r;
}

// The bytes of every weight of the base, packed or not.
std::string base_bytes(CausalLM& model) {
  std::string bytes;
  for (const NamedParameter& named : named_parameters(model)) {
    const Parameter& p = *named.parameter;
    const Tensor& held = p.packed ? p.packed->storage : p.value;
    bytes.append(static_cast<const char*>(held.raw()), held.bytes());
  }
  return bytes;
}

}  // namespace

TEST_CASE("an adapter learns on bases of every kind, whose bits stay") {
  const TemporaryDirectory place;
  const auto quantised = [&](const std::string& name, DType format) {
    const std::string path = (place.path() / (name + ".gguf")).string();
    export_model(golden_path(name), path, {.quantize = format});
    return path;
  };
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {golden_path("llama_untied_gqa"), {"q_proj", "v_proj", "down_proj"}},
      {golden_path("llama_tied_llama3_rope"), {"q_proj", "embed_tokens", "lm_head"}},
      {golden_path("gpt2"), {"c_attn", "wte"}},
      {quantised("llama_untied_gqa", DType::q4_1), {"q_proj", "lm_head"}},
      {quantised("qwen3_untied", DType::q8_0), {"o_proj", "embed_tokens"}},
      {quantised("llama_tied_llama3_rope", DType::iq4_nl), {"q_proj", "embed_tokens", "lm_head"}}};
  for (const auto& [checkpoint, targets] : cases) {
    INFO(checkpoint);
    const Recipe recipe = recipe_of(checkpoint, targets, 12);
    const TrainingModel made = make_training_model(recipe);
    const std::string before = base_bytes(made.model());
    const CountingRows data(16);
    Trainer trainer(made.model(), recipe, data, {12, 0});
    int64_t adapted = 0;
    for (const NamedParameter& p : adapter_parameters(made.model())) adapted += p.parameter->shape.elements();
    CHECK(trainer.arena().trainable_parameters() == adapted);
    std::vector<double> losses;
    for (int i = 0; i < 12; ++i) losses.push_back(trainer.step().loss);
    CHECK(losses.back() < losses.front() - 0.05);
    CHECK(base_bytes(made.model()) == before);
  }
}

// The base of the one is packed in blocks, that of the other are the same values in f32: the products are equal but for
// the order of their sums, and six steps carry that on.
TEST_CASE("on a quantised base an adapter learns what it would on the values that the blocks stand for") {
  const TemporaryDirectory place;
  const std::string blocks = (place.path() / "q8_0.gguf").string(), wide = (place.path() / "wide").string();
  export_model(golden_path("llama_untied_gqa"), blocks, {.quantize = DType::q8_0});
  export_model(blocks, wide);
  std::vector<std::vector<double>> losses(2);
  for (size_t i = 0; i < 2; ++i) {
    const Recipe recipe = recipe_of(i == 0 ? blocks : wide, {"q_proj", "up_proj"}, 6);
    const TrainingModel made = make_training_model(recipe);
    const CountingRows data(16);
    Trainer trainer(made.model(), recipe, data, {6, 0});
    for (int step = 0; step < 6; ++step) losses[i].push_back(trainer.step().loss);
  }
  for (size_t i = 0; i < 6; ++i) CHECK(losses[0][i] == Catch::Approx(losses[1][i]).epsilon(1e-5));
}

TEST_CASE("experts learn through their parameters") {
  Recipe recipe = recipe_of(golden_path("mixtral"), {"o_proj"}, 12);
  recipe.adapter->target_parameters = {"experts.gate_up_proj", "experts.down_proj"};
  const TrainingModel made = make_training_model(recipe);
  const CountingRows data(16);
  Trainer trainer(made.model(), recipe, data, {12, 0});
  const double first = trainer.step().loss;
  for (int i = 0; i < 10; ++i) trainer.step();
  CHECK(trainer.step().loss < first - 0.05);
}

TEST_CASE("an adapter's run goes on from its checkpoint with the same bits, dropout included") {
  Recipe recipe = recipe_of(golden_path("llama_untied_gqa"), {"q_proj", "lm_head"}, 6);
  recipe.adapter->dropout = 0.2;
  const CountingRows data(16);
  const TrainingModel whole = make_training_model(recipe);
  Trainer unbroken(whole.model(), recipe, data, {6, 0});
  const TemporaryDirectory place;
  const std::string folder = place.path().string();
  std::vector<double> losses;
  for (int i = 0; i < 6; ++i) {
    losses.push_back(unbroken.step().loss);
    if (i == 2) save_checkpoint(folder, unbroken, {3, 3, 0, 0, 0.0, data.key()}, 1);
  }
  const TrainingModel again = make_training_model(recipe);
  Trainer resumed(again.model(), recipe, data, {6, 0});
  CHECK(resumed.arena().trainable_parameters() == unbroken.arena().trainable_parameters());
  load_checkpoint(*newest_checkpoint(folder), resumed, data.key());
  for (size_t i = 3; i < 6; ++i) CHECK(resumed.step().loss == losses[i]);
  CHECK(values(resumed.arena().values()) == values(unbroken.arena().values()));
  recipe.adapter->dropout = 0.0;
  const TrainingModel without = make_training_model(recipe);
  Trainer plain(without.model(), recipe, data, {6, 0});
  CHECK(plain.step().loss == losses[0]);  // B is still zero
  CHECK(plain.step().loss != losses[1]);
}

TEST_CASE("what was trained is what its files give back") {
  const Recipe recipe = recipe_of(golden_path("gpt2"), {"c_attn", "c_proj", "wte", "lm_head"}, 5);
  const TrainingModel made = make_training_model(recipe);
  const CountingRows data(16);
  Trainer trainer(made.model(), recipe, data, {5, 0});
  for (int i = 0; i < 5; ++i) trainer.step();
  const TemporaryDirectory place;
  const std::string folder = (place.path() / "adapter").string();
  write_adapter(made.model(), made.base, folder);
  const LoadedModel loaded = load_model(golden_path("gpt2"), {.dtype = ComputeDtype::float32, .adapter = folder});
  CHECK(loaded.warnings.empty());
  const double got = evaluate_loss(*loaded.model, data, 4, 0).loss, want = evaluate_loss(made.model(), data, 4, 0).loss;
  CHECK(got == Catch::Approx(want).epsilon(1e-6));
  const LoadedModel base = load_model(golden_path("gpt2"));
  CHECK(evaluate_loss(*base.model, data, 4, 0).loss > want + 0.05);
  // Beside other weights than those that it was trained on, a word about it.
  const std::string other = (place.path() / "other.gguf").string();
  export_model(golden_path("gpt2"), other);
  const LoadedModel stranger = load_model(other, {.adapter = folder});
  REQUIRE(stranger.warnings.size() == 1);
  CHECK_THAT(stranger.warnings[0], ContainsSubstring("was trained on other weights than " + other));
}

TEST_CASE("a target that matches no module is named with the nearest one") {
  try {
    make_training_model(recipe_of(golden_path("llama_untied_gqa"), {"q_proj", "vproj"}, 1));
    FAIL("not refused");
  } catch (const Error& e) {
    CHECK_THAT(e.what(), ContainsSubstring("recipe: adapter.targets: 'vproj' names no module of this model"));
    CHECK(e.hint() == "did you mean v_proj?");
  }
}
