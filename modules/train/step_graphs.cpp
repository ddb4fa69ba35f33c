#include "train/step_graphs.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "attention/rope_table.h"
#include "config/model_config.h"

namespace lathe {

// A micro-batch in memory that stays where it is, and the graph of its forward and backward.
struct StepGraphs::Form {
  MicroBatch m;               // but for `gradients`, views of on_device
  Tensor on_host, on_device;  // all of its integers
  int64_t last_used = 0;
  std::unique_ptr<Graph> graph;

  Form(Device device, int64_t tokens, int64_t sequences, RopeTable* rope, int64_t longest) {
    on_host = Tensor::empty({2 + 3 * tokens + 2 * sequences + 1}, DType::i32);
    on_device = Tensor::empty(on_host.shape(), DType::i32, device);
    int64_t end = 0;
    const auto next = [&](int64_t count) {
      end += count;
      return on_device.row_range(end - count, end);
    };
    m.dropout_seed = next(2);  // first: it is read as one word
    m.targets = next(tokens);
    m.gradients = Tensor::empty({2}, DType::f32, device);
    Batch& batch = m.batch;
    batch.sizes = {.tokens = tokens, .sequences = sequences, .longest_context = longest, .most_new_tokens = longest};
    batch.tokens = next(tokens);
    batch.positions = next(tokens);
    batch.seq_start = next(sequences + 1);
    batch.context_len = next(sequences);
    batch.logit_rows = next(0);
    if (rope == nullptr) return;
    batch.rope = rope->reach(longest);
    for (RopeAngles& angles : batch.rope) angles.rows = batch.positions;
  }

  // The rows, behind them sequences of padding of at most so many tokens, then empty ones.
  void fill(const TrainingRows& rows, const MicroBatchNumbers& numbers, int64_t padding) {
    const int64_t tokens = m.batch.sizes.tokens, sequences = m.batch.sizes.sequences;
    std::vector<int32_t> starts = rows.seq_start;
    while (std::ssize(starts) <= sequences)
      starts.push_back(static_cast<int32_t>(std::min(tokens, starts.back() + padding)));
    auto* to = on_host.host<int32_t>();
    std::memcpy(to, &numbers.dropout_seed, sizeof(numbers.dropout_seed));
    const auto column = [&](const std::vector<int32_t>& values, int32_t behind) {
      const int64_t count = std::ssize(values);
      to = std::fill_n(std::copy(values.begin(), values.end(), to), tokens - count, behind);
    };
    to += 2;
    column(rows.targets, kIgnoredTarget);
    column(rows.tokens, 0);
    for (size_t s = 0; s + 1 < starts.size(); to += starts[s + 1] - starts[s], ++s)
      std::iota(to, to + (starts[s + 1] - starts[s]), 0);
    to = std::copy(starts.begin(), starts.end(), to);
    for (size_t s = 0; s + 1 < starts.size(); ++s) *to++ = starts[s + 1] - starts[s];
    on_device.copy_from(on_host);
    const LossFactors factors(on_device.device(), numbers);
    m.total = factors.total;
    m.router_balance = factors.router_balance;
    m.gradients.copy_from(factors.gradients());
  }
};

StepGraphs::StepGraphs(const CausalLM& model, const Recipe& recipe, int ranks)
    : model_(model),
      recipe_(recipe),
      figures_(Tensor::zeros({2}, DType::f32, model.device())),
      most_((recipe.training.batch_size + ranks - 1) / ranks * recipe.training.context),
      longest_(recipe.training.context),
      padding_(std::min(longest_, model.sizes.context_limit())),
      rope_(RopeTables(model.config, longest_, DType::f32, model.device()).of(longest_)) {}
StepGraphs::~StepGraphs() = default;

bool StepGraphs::fits(const TrainingRows& rows) const {
  const int64_t tokens = std::ssize(rows.tokens);
  if (tokens > most_ || (tokens < most_ && model_.sizes.num_experts > 0)) return false;
  int64_t shortest = longest_, longest = 0;
  for (size_t s = 0; s + 1 < rows.seq_start.size(); ++s) {
    const int64_t length = rows.seq_start[s + 1] - rows.seq_start[s];
    shortest = std::min(shortest, length);
    longest = std::max(longest, length);
  }
  const auto has_angles = [&](int64_t length) {
    return !rope_ || rope_frequencies(model_.config, length).inverse == rope_->frequencies.inverse;
  };
  return longest <= longest_ && has_angles(shortest) && has_angles(longest);
}

StepGraphs::Form& StepGraphs::form_of(const TrainingRows& rows) {
  const auto divide = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t count = std::ssize(rows.tokens), quarter = divide(most_, 4);
  const int64_t tokens = std::min(most_, divide(count, quarter) * quarter);
  const int64_t sequences = std::ssize(rows.seq_start) - 1 + divide(tokens - count, padding_);
  const auto rounded = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(sequences)));
  std::unique_ptr<Form>& form = forms_[{tokens, rounded}];
  if (!form) {
    form = std::make_unique<Form>(model_.device(), tokens, rounded, rope_.get(), longest_);
    form->m.batch.recompute = recipe_.training.recompute == TrainingRecipe::Recompute::block;
  }
  form->last_used = counts_.replayed + counts_.by_kernel;
  Form& used = *form;
  if (forms_.size() > kMostForms) drop_least_used(forms_);
  return used;
}

void StepGraphs::record(Form& form, const std::function<void()>& work) {
  if (!recording_) recording_.emplace(model_.device());
  try {
    form.graph = std::make_unique<Graph>(*recording_, work);
    ++counts_.recorded;
  } catch (const NotRecordable& error) {
    why_not_ = error.what();
    for (const auto& other : forms_) other.second->graph.reset();
    recording_.reset();
  }
}

const Tensor& StepGraphs::run(const TrainingRows& rows, const MicroBatchNumbers& numbers) {
  if (!fits(rows)) {
    ++counts_.by_kernel;
    run_micro_batch(model_, recipe_, make_micro_batch(model_, recipe_, rows, numbers), figures_);
    return figures_;
  }
  Form& form = form_of(rows);
  form.fill(rows, numbers, padding_);
  if (records && form.graph) {
    form.graph->replay();
    ++counts_.replayed;
    return figures_;
  }
  ++counts_.by_kernel;
  const auto work = [&] { run_micro_batch(model_, recipe_, form.m, figures_); };
  if (records && why_not_.empty())
    record(form, work);
  else
    work();
  return figures_;
}

}  // namespace lathe
