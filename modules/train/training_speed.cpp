#include "train/training_speed.h"

#include <chrono>
#include <filesystem>

#include "config/model_config.h"
#include "formats/atomic_file.h"
#include "tensor/random.h"
#include "tensor/stream.h"
#include "train/run.h"
#include "train/training_plan.h"

namespace lathe {
namespace {

// Rows of random ids, as long as the context.
class RandomIds : public Dataset {
 public:
  RandomIds(int64_t context, int64_t vocab_size, uint64_t seed)
      : context_(context), vocab_size_(vocab_size), seed_(seed) {}

  TrainingRows rows(int64_t first, int64_t count) const override {
    TrainingRows rows;
    rows.seq_start.push_back(0);
    for (int64_t row = first; row < first + count; ++row) {
      for (int64_t i = 0; i <= context_; ++i) {
        const double u = random_uniform(seed_, static_cast<uint64_t>(row), static_cast<uint64_t>(i));
        const auto id = static_cast<int32_t>(u * static_cast<double>(vocab_size_));
        if (i < context_) rows.tokens.push_back(id);
        if (i > 0) rows.targets.push_back(id);
      }
      rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
      rows.pieces.push_back(row);
    }
    rows.target_count = count * context_;
    return rows;
  }
  int64_t rows_per_epoch() const override { return int64_t{1} << 20; }
  Counts counts() const override { return {rows_per_epoch() * context_, rows_per_epoch() * context_}; }
  const std::string& key() const override { return key_; }

 private:
  int64_t context_, vocab_size_;
  uint64_t seed_;
  std::string key_ = "random ids";
};

}  // namespace

int64_t training_operations(CausalLM& model, int64_t context) {
  double operations = 0.0;
  const Parameter* head = model.head().weight;
  for (const NamedParameter& named : all_parameters(model)) {
    const Parameter& p = *named.parameter;
    const bool multiplies = p.kind == Parameter::Kind::matrix || p.kind == Parameter::Kind::router || &p == head;
    // One product forwards; backwards one for the gradient of its input, and one for its own where it has one.
    if (multiplies) operations += (p.trainable ? 6.0 : 4.0) * p.share * static_cast<double>(p.shape.elements());
  }
  const ModelSizes& c = model.sizes;
  return static_cast<int64_t>(operations) + 6 * c.num_hidden_layers * context * c.num_attention_heads * c.head_dim;
}

TrainingSpeed measure_training_speed(const Recipe& recipe, int64_t steps, Device device) {
  check(recipe.training.tensor_parallel == 1, "bench", "steps are measured with training.tensor_parallel: 1, found {}",
        recipe.training.tensor_parallel);
  const StepsMemory memory(recipe);
  const TrainingModel made = make_training_model(recipe, nullptr, device);
  CausalLM& model = made.model();
  const TrainingRecipe& t = recipe.training;
  const AtomicFolder cache((std::filesystem::temp_directory_path() / "lathe-bench").string());  // never committed
  std::unique_ptr<Dataset> data;
  if (recipe.data.train.empty()) {
    data = std::make_unique<RandomIds>(t.context, model.sizes.vocab_size, t.seed);
  } else {
    DataOptions options;
    options.context = t.context;
    options.seed = t.seed;
    options.cache = cache.path();
    options.checkpoint = recipe.model.checkpoint;
    data = open_data(recipe.data, options).train;
  }
  Trainer trainer(model, recipe, *data, {steps + 1, 0});
  TrainingSpeed speed;
  speed.parameters = count_parameters(model);
  speed.operations_a_token = training_operations(model, t.context);
  trainer.step();
  Stream::synchronise(device);
  for (int64_t i = 0; i < steps; ++i) {
    const auto start = std::chrono::steady_clock::now();
    speed.tokens_a_step = trainer.step().tokens;
    Stream::synchronise(device);
    speed.step_seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return speed;
}

}  // namespace lathe
