#include "train/micro_batch.h"

#include "attention/rope_table.h"
#include "common/router_logits.h"
#include "config/model_config.h"

namespace lathe {

Batch make_training_batch(const CausalLM& model, const TrainingRows& rows, TrainingRecipe::Recompute recompute) {
  std::vector<BatchSequence> sequences;
  int64_t longest = 0;
  for (size_t s = 0; s + 1 < rows.seq_start.size(); ++s) {
    const auto begin = static_cast<size_t>(rows.seq_start[s]), end = static_cast<size_t>(rows.seq_start[s + 1]);
    BatchSequence sequence;
    sequence.tokens = std::span(rows.tokens).subspan(begin, end - begin);
    sequence.logits_from = std::ssize(sequence.tokens);
    longest = std::max(longest, sequence.logits_from);
    sequences.push_back(sequence);
  }
  const Device device = model.device();
  RopeTables tables(model.config, longest, DType::f32, device);
  std::vector<std::shared_ptr<RopeTable>> held;
  for (BatchSequence& sequence : sequences) {
    held.push_back(tables.of(std::ssize(sequence.tokens)));
    sequence.rope = held.back().get();
  }
  Batch batch = make_batch(sequences, nullptr, device);
  batch.recompute = recompute == TrainingRecipe::Recompute::block;
  return batch;
}

Arithmetic products_of(const TrainingRecipe& recipe) {
  return recipe.dtype == TrainingRecipe::Dtype::bfloat16 ? Arithmetic::bf16 : Arithmetic::f32;
}

namespace {

// Each micro-batch drops other elements: its seed is of the run, the step and its place in it.
uint64_t seed_of(const Recipe& recipe, int64_t step, int64_t index) {
  return recipe.training.seed + 0x9E3779B97F4A7C15u * static_cast<uint64_t>(step * 65536 + index);
}

}  // namespace

MicroBatchScope::MicroBatchScope(const Recipe& recipe, int64_t step, int64_t index)
    : MicroBatchScope(recipe, dropout_seed(seed_of(recipe, step, index))) {}

MicroBatchScope::MicroBatchScope(const Recipe& recipe, const Tensor& seed)
    : dropout_{recipe.model.dropout, seed},
      dropping_(dropout_),
      adapter_dropout_{seed},
      dropping_in_adapter_(adapter_dropout_),
      precision_(products_of(recipe.training)) {}

Tensor router_balance_loss(const CausalLM& model, const std::vector<Tensor>& router_logits, double factor) {
  if (factor == 0.0 || router_logits.empty()) return {};
  return scale(load_balancing_loss(router_logits, model.sizes.num_experts_per_tok), factor);
}

MicroBatchNumbers micro_batch_numbers(const CausalLM& model, const Recipe& recipe, const TrainingRows& rows,
                                      int64_t targets, int64_t step, int64_t index) {
  const double share = static_cast<double>(rows.target_count) / static_cast<double>(targets);
  return {.targets = targets,
          .router_balance = recipe.training.router_balance.value_or(model.config.router_aux_loss_coef) * share,
          .dropout_seed = seed_of(recipe, step, index)};
}

LossFactors::LossFactors(Device device, const MicroBatchNumbers& numbers) {
  if (device.kind != Device::Kind::cuda) {
    total = static_cast<double>(numbers.targets);
    router_balance = numbers.router_balance;
    return;
  }
  router_balance = numbers.router_balance != 0.0 ? 1.0 : 0.0;
  behind[0] = 1.0 / static_cast<double>(numbers.targets);
  behind[1] = numbers.router_balance;
}

Tensor LossFactors::gradients() const {
  const float values[] = {static_cast<float>(behind[0]), static_cast<float>(behind[1])};
  return Tensor::of<float>({2}, values);
}

MicroBatch make_micro_batch(const CausalLM& model, const Recipe& recipe, const TrainingRows& rows,
                            const MicroBatchNumbers& numbers) {
  const Device device = model.device();
  const LossFactors factors(device, numbers);
  return {.batch = make_training_batch(model, rows, recipe.training.recompute),
          .targets = Tensor::of<int32_t>({std::ssize(rows.targets)}, rows.targets.data()).to(device),
          .dropout_seed = dropout_seed(numbers.dropout_seed).to(device),
          .gradients = factors.gradients().to(device),
          .total = factors.total,
          .router_balance = factors.router_balance};
}

std::vector<Tape::Seed> MicroBatchLoss::seeds(const Tensor& gradients) const {
  std::vector<Tape::Seed> seeds{{cross_entropy, gradients.row_range(0, 1)}};
  if (router_balance.defined() && router_balance.tape_id != 0)  // not recorded where the routers are frozen
    seeds.push_back({router_balance, gradients.row_range(1, 2)});
  return seeds;
}

MicroBatchLoss micro_batch_loss(const CausalLM& model, const MicroBatch& m) {
  std::vector<Tensor> router_logits;
  const RouterLogits collecting(router_logits);
  MicroBatchLoss y;
  y.cross_entropy = loss(model, m.batch, m.targets, m.total);
  y.router_balance = router_balance_loss(model, router_logits, m.router_balance);
  return y;
}

void run_micro_batch(const CausalLM& model, const Recipe& recipe, const MicroBatch& m, const Tensor& figures) {
  const MicroBatchScope scope(recipe, m.dropout_seed);
  Tape tape;
  MicroBatchLoss y;
  {
    const Tape::Scope recording(tape);
    y = micro_batch_loss(model, m);
  }
  figures.row_range(0, 1).copy_from(y.cross_entropy);
  if (y.router_balance.defined()) figures.row_range(1, 2).copy_from(y.router_balance);
  tape.backward(y.seeds(m.gradients));
}

}  // namespace lathe
