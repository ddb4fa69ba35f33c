#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/tape.h"
#include "autograd/update.h"
#include "llm/tensor_parallel.h"
#include "tensor/interruption.h"
#include "train/not_finite.h"
#include "train/schedule.h"

namespace lathe {
namespace {

// That share the rows of data out: none do where they share the model's weights out.
Communicator& row_ranks(const CausalLM& model, Communicator& ranks) {
  return model.ranks->alone() ? ranks : Communicator::one();
}

// The part of rows [first, first + count) that a rank takes: maybe none.
std::pair<int64_t, int64_t> share_of(int64_t first, int64_t count, const Communicator& ranks) {
  const int64_t begin = count * ranks.rank() / ranks.size(), end = count * (ranks.rank() + 1) / ranks.size();
  return {first + begin, end - begin};
}

// Of steps, whose median is what the norm of gradients is held against.
constexpr int64_t kNormsKept = 100, kFewestNorms = 10;

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

TrainingStep Trainer::step(bool measure_updates) {
  TrainingStep step;
  step.number = steps_done + 1;
  step.learning_rate = learning_rate(recipe_.schedule, recipe_.optimizer.learning_rate, step.number, length_.steps);
  const std::vector<TrainingRows> micro_batches = rows_of(step.number, ranks_);
  count(micro_batches, step);
  for (size_t i = 0; i < micro_batches.size(); ++i) accumulate(micro_batches[i], static_cast<int64_t>(i), step);
  read_losses(micro_batches, step);
  add_over_ranks(step);
  step.gradient_norm = optimizer_.gradient_norm();
  step.skipped = why_to_skip(micro_batches, step);
  if (step.skipped.empty()) {
    if (measure_updates) step.update_ratios.emplace();
    optimizer_.step(++updates_done, step.learning_rate, clip_factor(recipe_.training.clip, step.gradient_norm),
                    step.update_ratios ? &*step.update_ratios : nullptr);
    optimizer_.average(updates_done);
    gather_values();
    norms.push_back(step.gradient_norm);
    if (std::ssize(norms) > kNormsKept) norms.erase(norms.begin());
  }
  if (!step.skipped.empty() || !ranks_.alone()) fill(arena_.gradients(), 0.0);
  steps_done = step.number;
  return step;
}

void Trainer::count(const std::vector<TrainingRows>& micro_batches, TrainingStep& step) const {
  double counts[3] = {};  // tokens, targets, pieces: exact in double
  for (const TrainingRows& rows : micro_batches) {
    counts[0] += static_cast<double>(rows.tokens.size());
    counts[1] += static_cast<double>(rows.target_count);
    counts[2] += static_cast<double>(rows.pieces.size());
  }
  ranks_.sum(counts);
  step.tokens = static_cast<int64_t>(counts[0]);
  step.targets = static_cast<int64_t>(counts[1]);
  if (reference_ != nullptr) step.preference = {0.0, 0.0, static_cast<int64_t>(counts[2]) / 2};
}

// The loss on all ranks, of the gradients the part that a rank's optimizer steps.
void Trainer::add_over_ranks(TrainingStep& step) const {
  sum_head_gradients(model_);
  if (ranks_.alone()) return;
  PreferenceFigures preference = step.preference.value_or(PreferenceFigures{});
  double figures[4] = {step.loss, step.router_balance, preference.margin, preference.accuracy};
  ranks_.sum(figures);
  step.loss = figures[0];
  step.router_balance = figures[1];
  if (step.preference) step.preference = {figures[2], figures[3], preference.pairs};
  in_host_memory(arena_.gradients(), [&](float* g) { ranks_.reduce_scatter(g, optimizer_.borders()); });
}

// Of the rank's micro-batch number `index` of the step.
MicroBatchNumbers Trainer::numbers_of(const TrainingRows& rows, int64_t index, const TrainingStep& step) const {
  return micro_batch_numbers(model_, recipe_, rows, step.targets, step.number, index * ranks_.size() + ranks_.rank());
}

// Forward and backward of micro-batch number `index` of the step: adds to the gradients, and leaves the losses in
// losses_, or of pairs adds them to the step's.
void Trainer::accumulate(const TrainingRows& rows, int64_t index, TrainingStep& step) const {
  if (rows.target_count == 0) return;
  Interruption::point();
  if (reference_ != nullptr) return accumulate_pairs(rows, index * ranks_.size() + ranks_.rank(), step);
  const MicroBatchNumbers numbers = numbers_of(rows, index, step);
  const Tensor losses = losses_.row_range(index, index + 1).view({2});
  if (graphs_)
    losses.copy_from(graphs_->run(rows, numbers));
  else
    run_micro_batch(model_, recipe_, make_micro_batch(model_, recipe_, rows, numbers), losses);
}

// The device is waited for here, once for all micro-batches.
void Trainer::read_losses(const std::vector<TrainingRows>& micro_batches, TrainingStep& step) const {
  if (reference_ != nullptr) return;
  const Tensor on_host = losses_.to(Device{});
  const float* losses = on_host.host<float>();
  for (size_t i = 0; i < micro_batches.size(); ++i, losses += 2) {
    if (micro_batches[i].target_count == 0) continue;
    const LossFactors factors(losses_.device(), numbers_of(micro_batches[i], static_cast<int64_t>(i), step));
    step.loss += static_cast<double>(losses[0]) * factors.behind[0];
    step.router_balance += static_cast<double>(losses[1]) * factors.behind[1];
  }
}

void Trainer::accumulate_pairs(const TrainingRows& rows, int64_t number, TrainingStep& step) const {
  const MicroBatchScope scope(recipe_, step.number, number);
  Tape tape;
  PreferenceLoss pairs;
  {
    const Tape::Scope recording(tape);
    const Batch batch = make_training_batch(model_, rows, recipe_.training.recompute);
    pairs = preference_loss(score_answers(model_, batch, rows), rows, *reference_, recipe_.training.dpo_beta,
                            step.preference->pairs);
  }
  step.loss += pairs.loss;
  step.preference->margin += pairs.margin;
  step.preference->accuracy += pairs.accuracy;
  tape.backward({pairs.seed});
}

std::vector<TrainingRows> Trainer::rows_of(int64_t step, Communicator& ranks) const {
  const TrainingRecipe& t = recipe_.training;
  std::vector<TrainingRows> list;
  for (int64_t a = 0; a < t.accumulation; ++a) {
    const int64_t first = ((step - 1) * t.accumulation + a) * t.batch_size;
    const int64_t rows = length_.rows > 0 ? std::min(t.batch_size, length_.rows - first) : t.batch_size;
    const auto [begin, own] = share_of(first, std::max<int64_t>(rows, 0), ranks);
    list.push_back(own > 0 ? data_.rows(begin, own) : TrainingRows{});
  }
  return list;
}

std::vector<TrainingRows> Trainer::rows_of(int64_t step) const { return rows_of(step, Communicator::one()); }

// Of a step that is not finite the first activation that is not, then the first gradient.
std::string Trainer::why_to_skip(const std::vector<TrainingRows>& micro_batches, const TrainingStep& step) const {
  if (step.targets == 0) return "none of its rows has a target";
  if (std::isfinite(step.loss) && std::isfinite(step.gradient_norm)) {
    const double limit = recipe_.training.skip_above;
    if (limit == 0.0 || std::ssize(norms) < kFewestNorms || step.gradient_norm <= limit * median(norms)) return {};
    return fmt::format("the norm of its gradients is {:.4g}, the median of the last {} is {:.4g}", step.gradient_norm,
                       norms.size(), median(norms));
  }
  std::string found;
  for (const TrainingRows& rows : micro_batches) {
    if (found.empty() && rows.target_count > 0 && !std::isfinite(step.loss))
      found = first_not_finite_activation(model_, make_training_batch(model_, rows));
    found = tensor_ranks_.first_text(found);
  }
  found = ranks_.first_text(found);
  if (!found.empty()) return found;
  const std::string gradient = optimizer_.first_not_finite();
  return gradient.empty() ? "the loss is not finite" : gradient;
}

void Trainer::gather_values() {
  if (ranks_.alone()) return;
  in_host_memory(arena_.values(), [&](float* values) { ranks_.all_gather(values, optimizer_.borders()); });
}

void AveragedWeights::swap() {
  if (trainer_.recipe_.optimizer.ema == 0.0) return;
  trainer_.optimizer_.swap_average();
  trainer_.gather_values();
}

Trainer::Trainer(CausalLM& model, const Recipe& recipe, const Dataset& data, TrainingLength length, Communicator& ranks,
                 const ReferenceScores* reference)
    : model_(model),
      recipe_(recipe),
      data_(data),
      length_(length),
      ranks_(row_ranks(model, ranks)),
      tensor_ranks_(*model.ranks),
      reference_(reference),
      arena_(model),
      optimizer_(recipe.optimizer, arena_, ranks_, recipe.training.seed, tensor_ranks_),
      losses_(Tensor::zeros({recipe.training.accumulation, 2}, DType::f32, model.device())) {
  if (model.device().kind == Device::Kind::cuda && reference == nullptr && !shares_weights())
    graphs_ = std::make_unique<StepGraphs>(model, recipe_, ranks.size());
  const std::vector<std::string> decayed = arena_.decayed_names();
  check(recipe.optimizer.decayed.empty() || recipe.optimizer.decayed == decayed, "recipe",
        "optimizer.decayed does not name the {} tensors that decay in this model", decayed.size());
  check(reference != nullptr || recipe.data.format != DataRecipe::Format::preference, "train",
        "preferences are learnt by what the first model makes of them");
  take_first_values();
}

// Machines of other kinds may have drawn other weights.
void Trainer::take_first_values() {
  const auto take = [](Communicator& ranks, const Tensor& values) {
    if (ranks.alone()) return;
    std::vector<int64_t> all_of_the_first(static_cast<size_t>(ranks.size()) + 1, values.elements());
    all_of_the_first[0] = 0;
    in_host_memory(values, [&](float* v) { ranks.all_gather(v, all_of_the_first); });
  };
  take(ranks_, arena_.values());
  for (const ParameterArena::Slice& s : arena_.slices())
    if (!s.parameter->is_part()) take(tensor_ranks_, arena_.values_of(s.begin, s.begin + s.size));
}

TrainingLength training_length(const TrainingRecipe& t, const Dataset& data) {
  const int64_t rows_a_step = t.batch_size * t.accumulation;
  TrainingLength length{t.steps, 0};
  const Dataset::Counts counts = data.counts();
  if (t.epochs > 0.0)
    length.rows = static_cast<int64_t>(std::ceil(t.epochs * static_cast<double>(data.rows_per_epoch())));
  if (t.tokens > 0)
    length.rows = static_cast<int64_t>(std::ceil(static_cast<double>(t.tokens) / static_cast<double>(counts.tokens) *
                                                 static_cast<double>(data.rows_per_epoch())));
  if (length.rows > 0) length.steps = (length.rows + rows_a_step - 1) / rows_a_step;
  check(length.steps > 0, "train", "the run has no step");
  return length;
}

Evaluation evaluate_loss(const CausalLM& model, const Dataset& data, int64_t batch_size, int64_t batches,
                         Communicator& all_ranks) {
  const Tape::Pause pause;
  Communicator& ranks = row_ranks(model, all_ranks);
  int64_t rows = data.rows_per_epoch();
  if (batches > 0) rows = std::min(rows, batches * batch_size);
  Evaluation e;
  double sums[2] = {};  // of losses and targets
  for (int64_t first = 0; first < rows; first += batch_size) {
    Interruption::point();
    const auto [begin, own] = share_of(first, std::min(batch_size, rows - first), ranks);
    const TrainingRows part = own > 0 ? data.rows(begin, own) : TrainingRows{};
    if (part.target_count == 0) continue;
    const Tensor targets = Tensor::of<int32_t>({std::ssize(part.targets)}, part.targets.data());
    const Tensor mean = loss(model, make_training_batch(model, part), targets);
    sums[0] += static_cast<double>(mean.to(Device{}).host<float>()[0]) * static_cast<double>(part.target_count);
    sums[1] += static_cast<double>(part.target_count);
  }
  ranks.sum(sums);
  e.targets = static_cast<int64_t>(sums[1]);
  check(e.targets > 0, "train", "the validation data have no target");
  e.loss = sums[0] / sums[1];
  const Dataset::Counts counts = data.counts();
  if (counts.bytes > 0)
    e.bits_per_byte =
        e.loss / std::numbers::ln2 * static_cast<double>(counts.targets) / static_cast<double>(counts.bytes);
  return e;
}

Evaluation evaluate_preferences(const CausalLM& model, const Dataset& data, const ReferenceScores& reference,
                                double beta, int64_t batch_size, int64_t batches, Communicator& ranks) {
  const Tape::Pause pause;
  int64_t rows = data.rows_per_epoch();
  if (batches > 0) rows = std::min(rows, batches * batch_size);
  double sums[4] = {};  // losses, targets, margins, accuracies
  for (int64_t first = 0; first < rows; first += batch_size) {
    Interruption::point();
    const auto [begin, own] = share_of(first, std::min(batch_size, rows - first), ranks);
    if (own == 0) continue;
    const TrainingRows part = data.rows(begin, own);
    const PreferenceLoss pairs =
        preference_loss(score_answers(model, make_training_batch(model, part), part), part, reference, beta, rows);
    sums[0] += pairs.loss;
    sums[1] += static_cast<double>(part.target_count);
    sums[2] += pairs.margin;
    sums[3] += pairs.accuracy;
  }
  ranks.sum(sums);
  Evaluation e;
  e.loss = sums[0];
  e.targets = static_cast<int64_t>(sums[1]);
  e.preference = {sums[2], sums[3], rows};
  return e;
}

}  // namespace lathe
