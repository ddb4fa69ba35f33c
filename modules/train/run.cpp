#include "train/run.h"

#include <yaml-cpp/yaml.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "autograd/precision.h"
#include "config/model_config.h"
#include "config/yaml_value.h"
#include "formats/atomic_file.h"
#include "formats/safetensors.h"
#include "llm/export.h"
#include "llm/family.h"
#include "llm/tensor_parallel.h"
#include "train/checkpoint.h"
#include "train/event_file.h"
#include "train/metrics_log.h"
#include "train/report.h"
#include "train/samples.h"
#include "train/training_plan.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void write_text(const fs::path& path, const std::string& text) {
  AtomicFile file(path.string());
  file.write(text);
  file.commit();
}

// Makes the folder, or finds the same run in it. Throws Error where it holds another one.
void open_folder(const Recipe& recipe, const fs::path& folder, bool resume) {
  const fs::path path = folder / "recipe.yaml";
  if (!fs::exists(path)) {
    std::error_code error;
    fs::create_directories(folder / "checkpoints", error);
    check(!error, "train", "cannot create {}: {}", folder.string(), error.message());
    return;
  }
  if (!resume)
    throw Error(fmt::format("train: {} holds a run already", folder.string()),
                "--resume goes on with it; another --output begins a new one");
  Recipe before = read_recipe(path.string());
  if (recipe.optimizer.decayed.empty()) before.optimizer.decayed.clear();
  const std::vector<std::string> different = different_keys(before, recipe);
  if (!different.empty())
    throw Error(fmt::format("train: {} was made with another {}", path.string(), different.front()),
                "a run goes on with what it began with; another --output begins a new one");
}

// Makes on the first rank what the others then find. Where it throws, the program ends all ranks.
template <class Make>
auto first_rank_first(Communicator& ranks, const Make& make) {
  if (!ranks.is_first()) ranks.barrier();
  auto made = make();
  if (ranks.is_first()) ranks.barrier();
  return made;
}

// While it lives, the first of ranks that share the weights out has all of them. All ranks together.
class WholeModel {
 public:
  explicit WholeModel(TrainingModel& model) : place_(model.fresh ? model.fresh : model.loaded.model) {
    if (!place_->ranks->alone()) kept_ = gather_model(*place_);
    if (kept_) std::swap(kept_, place_);
  }
  ~WholeModel() {
    if (kept_) std::swap(kept_, place_);
  }
  WholeModel(const WholeModel&) = delete;
  WholeModel& operator=(const WholeModel&) = delete;

 private:
  std::unique_ptr<CausalLM>& place_;
  std::unique_ptr<CausalLM> kept_;  // the own part, while the whole model is in its place
};

// One run, from where it stands to its end.
class Run {
 public:
  Run(const Recipe& recipe, const std::string& folder, const RunOptions& options, const RunCallbacks& callbacks)
      : recipe_(recipe),
        folder_(folder),
        callbacks_(callbacks),
        ranks_(*options.ranks),
        memory_(recipe),
        data_(first_rank_first(ranks_, [&] { return open_data(recipe.data, data_options(options)); })),
        model_(make_training_model(recipe, data_.tokenizer.get(), options.device,
                                   recipe.training.tensor_parallel > 1 ? ranks_ : Communicator::one())),
        trainer_(model_.model(), recipe, *data_.train, training_length(recipe.training, *data_.train), ranks_,
                 learns_preferences() ? &reference_ : nullptr),
        metrics_(folder) {
    check_vocabulary();
    Recipe resolved = recipe;
    resolved.optimizer.decayed = trainer_.arena().decayed_names();
    if (ranks_.is_first()) write_text(folder_ / "recipe.yaml", to_yaml(resolved));
    state_.data_key = data_.train->key();
    if (learns_preferences()) prepare_references();
    const std::string checkpoint =
        ranks_.broadcast(ranks_.is_first() ? newest_checkpoint(checkpoints()).value_or("") : "");
    if (!checkpoint.empty()) {
      state_ = load_checkpoint(checkpoint, trainer_, state_.data_key);
      note(fmt::format("goes on after step {}", state_.steps));
    }
    if (ranks_.is_first()) metrics_.keep_until(state_.steps);
    if (ranks_.is_first() && recipe_.logging.tensorboard)
      events_.emplace((folder_ / "tensorboard").string(), state_.steps + 1);
    begin_ = Clock::now() - std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(state_.seconds));
    last_step_ = logged_ = state_.seconds;
    logged_tokens_ = state_.tokens;
    for (const std::string& line : data_.notes) note(line);
    describe();
  }

  bool go() {
    if (ranks_.is_first()) callbacks_.on_start(trainer_.steps_done, trainer_.length().steps);
    while (trainer_.steps_done < trainer_.length().steps) {
      const int64_t number = trainer_.steps_done + 1;
      const bool is_last = number == trainer_.length().steps;
      const bool evaluates = is_due(recipe_.evaluation.every, number) || is_last;
      const bool logs = is_due(recipe_.logging.every, number) || evaluates;
      const TrainingStep step = trainer_.step(logs);
      const double seconds = seconds_since(begin_);
      state_ = {number,  trainer_.updates_done, state_.tokens + step.tokens, state_.targets + step.targets,
                seconds, state_.data_key};
      if (ranks_.is_first()) callbacks_.on_step(step, static_cast<double>(step.tokens) / (seconds - last_step_));
      last_step_ = seconds;
      if (!step.skipped.empty()) keep_skipped(step);
      if (logs || !step.skipped.empty()) log(step, evaluates);
      const bool stops = ranks_.any(callbacks_.stop()) && !is_last;
      if (is_due(recipe_.checkpoint.every, number) || is_last || stops)
        save_checkpoint(checkpoints(), trainer_, state_, recipe_.checkpoint.keep);
      if (stops) break;
    }
    const bool whole = trainer_.steps_done == trainer_.length().steps;
    if (trainer_.graphs() != nullptr) note_graphs(*trainer_.graphs());
    if (ranks_.is_first()) write_report(folder_.string(), count_parameters(model_.model()));
    if (whole) {
      const AveragedWeights averaged(trainer_);
      const WholeModel whole(model_);
      if (ranks_.is_first()) export_result();
    }
    ranks_.barrier();
    return whole;
  }

 private:
  void note(const std::string& line) const {
    if (ranks_.is_first()) callbacks_.on_note(line);
  }
  void note_graphs(const StepGraphs& graphs) const {
    const StepGraphs::Counts& counts = graphs.counts();
    note(fmt::format("graphs: {} recorded, {} micro-batches replayed, {} run kernel by kernel{}{}", counts.recorded,
                     counts.replayed, counts.by_kernel, graphs.why_not().empty() ? "" : ": ", graphs.why_not()));
  }
  bool learns_preferences() const { return recipe_.data.format == DataRecipe::Format::preference; }

  // By the weights that the run begins with, which are those in memory until a checkpoint is loaded. The other ranks
  // read what the first has written.
  void prepare_references() {
    const TrainingRecipe& t = recipe_.training;
    const TrainingLength length = trainer_.length();
    const int64_t all = length.rows > 0 ? length.rows : length.steps * t.accumulation * t.batch_size;
    const int64_t epoch = (data_.train->rows_per_epoch() + t.batch_size - 1) / t.batch_size * t.batch_size;
    note(fmt::format("what the first model makes of {} pairs is computed once", std::min(all, epoch)));
    first_rank_first(ranks_, [&] {
      {
        const Precision precision(products_of(t));
        reference_.prepare(model_.model(), *data_.train, std::min(all, epoch), t.batch_size,
                           (folder_ / "reference.safetensors").string());
      }
      if (data_.validation)
        validation_reference_.prepare(model_.model(), *data_.validation, data_.validation->rows_per_epoch(),
                                      t.batch_size, (folder_ / "reference_validation.safetensors").string());
      return true;
    });
  }

  Evaluation evaluate() const {
    const int64_t rows = recipe_.training.batch_size, batches = recipe_.evaluation.batches;
    if (!learns_preferences()) return evaluate_loss(model_.model(), *data_.validation, rows, batches, ranks_);
    return evaluate_preferences(model_.model(), *data_.validation, validation_reference_, recipe_.training.dpo_beta,
                                rows, batches, ranks_);
  }

  std::string checkpoints() const { return (folder_ / "checkpoints").string(); }
  static bool is_due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

  DataOptions data_options(const RunOptions& options) const {
    return {recipe_.training.context, recipe_.training.seed, (folder_ / "data").string(), recipe_.model.checkpoint,
            options.skip_bad_lines};
  }

  void check_vocabulary() const {
    const ModelSizes& sizes = model_.model().sizes;
    if (data_.vocab_size > sizes.vocab_size)
      throw Error(fmt::format("train: the data's ids reach {}, the model has a vocabulary of {}", data_.vocab_size - 1,
                              sizes.vocab_size),
                  fmt::format("a model for these data needs a vocab_size of at least {}", data_.vocab_size));
    const int64_t limit = sizes.context_limit();
    check(recipe_.training.context <= limit || sizes.uses_rope() || model_.model().config.alibi, "train",
          "training.context is {}, the model has {} learned positions", recipe_.training.context, limit);
  }

  void describe() const {
    const Dataset::Counts counts = data_.train->counts();
    note(fmt::format(
        "{} of {} parameters are trained, on {} tokens an epoch with {} targets, {} of which end a turn; {} steps",
        trainer_.arena().trainable_parameters(), count_parameters(model_.model()), counts.tokens, counts.targets,
        counts.end_of_turn_targets, trainer_.length().steps));
    if (products_of(recipe_.training) == Arithmetic::bf16)
      note(Precision::multiplies_bf16(trainer_.arena().values())
               ? "products are of bf16, summed in float32"
               : "products are of values rounded to bf16, multiplied in float32: this machine has nothing faster for "
                 "bf16");
  }

  // Training is what tokens a second are of; the rest of a run has its share in `seconds` alone.
  void log(const TrainingStep& step, bool evaluates) {
    MetricsLog::Clock clock{state_.tokens, state_.seconds, 0.0};
    clock.tokens_per_second =
        static_cast<double>(state_.tokens - logged_tokens_) / std::max(1e-9, state_.seconds - logged_);
    std::optional<Evaluation> evaluation;
    std::optional<AveragedWeights> averaged;
    if (evaluates) averaged.emplace(trainer_);
    if (evaluates && data_.validation) {
      evaluation = evaluate();
      note(fmt::format("step {}: validation loss {:.4f}", step.number, evaluation->loss));
    }
    const bool writes_samples = evaluates && recipe_.logging.samples > 0 && data_.tokenizer;
    std::optional<WholeModel> whole;
    if (writes_samples) whole.emplace(model_);
    if (!ranks_.is_first()) return;
    metrics_.write(step, clock, evaluation);
    if (events_) add_events(step, clock, evaluation);
    if (writes_samples) {
      const Dataset& source = data_.validation ? *data_.validation : *data_.train;
      constexpr int64_t kSampleTokens = 128;
      metrics_.write(step.number, write_samples(model_.model(), data_.tokenizer, source, recipe_.logging.samples,
                                                kSampleTokens, recipe_.training.context));
    }
    logged_tokens_ = state_.tokens;
    logged_ = last_step_ = seconds_since(begin_);
  }

  void add_events(const TrainingStep& step, const MetricsLog::Clock& clock,
                  const std::optional<Evaluation>& evaluation) {
    events_->add_scalar("train/loss", step.loss, step.number);
    events_->add_scalar("train/gradient_norm", step.gradient_norm, step.number);
    events_->add_scalar("train/learning_rate", step.learning_rate, step.number);
    events_->add_scalar("train/tokens_per_second", clock.tokens_per_second, step.number);
    if (step.preference) events_->add_scalar("train/margin", step.preference->margin, step.number);
    if (step.preference) events_->add_scalar("train/accuracy", step.preference->accuracy, step.number);
    if (evaluation) events_->add_scalar("validation/loss", evaluation->loss, step.number);
    if (evaluation && evaluation->bits_per_byte > 0.0)
      events_->add_scalar("validation/bits_per_byte", evaluation->bits_per_byte, step.number);
    events_->flush();
  }

  // Under skipped/, as safetensors: the rows of each micro-batch, to be looked at and computed again.
  void keep_skipped(const TrainingStep& step) const {
    note(fmt::format("step {} was skipped: {}", step.number, step.skipped));
    if (!ranks_.is_first()) return;
    fs::create_directories(folder_ / "skipped");
    std::vector<std::pair<std::string, Tensor>> tensors;
    const std::vector<TrainingRows> micro_batches = trainer_.rows_of(step.number);
    for (size_t i = 0; i < micro_batches.size(); ++i) {
      const TrainingRows& rows = micro_batches[i];
      const auto add = [&](const char* name, const std::vector<int32_t>& ids) {
        tensors.emplace_back(fmt::format("{}.{}", i, name), Tensor::of<int32_t>({std::ssize(ids)}, ids.data()));
      };
      add("tokens", rows.tokens);
      add("targets", rows.targets);
      add("starts", rows.seq_start);
    }
    write_safetensors((folder_ / "skipped" / fmt::format("step-{:08}.safetensors", step.number)).string(), tensors,
                      {{"reason", step.skipped}});
  }

  void export_result() {
    const fs::path target = folder_ / "model";
    fs::remove_all(target);
    if (recipe_.adapter)
      write_adapter(model_.model(), model_.base, target.string());
    else if (model_.fresh)
      export_model(*model_.fresh, data_.tokenizer_folder, target.string());
    else
      export_loaded(target);
  }

  // A GGUF file's vocabulary has no other form, so it goes on in one beside the folder.
  void export_loaded(const fs::path& target) {
    for (const std::string& line : export_model(model_.loaded, target.string())) note(line);
    if (!model_.loaded.checkpoint.gguf) return;
    const std::string file = target.string() + ".gguf";
    for (const std::string& line : export_model(model_.loaded, file)) note(line);
    note(fmt::format("{} has the same weights with the vocabulary", file));
  }

  const Recipe& recipe_;
  const fs::path folder_;
  const RunCallbacks& callbacks_;
  Communicator& ranks_;
  StepsMemory memory_;
  TrainingData data_;
  TrainingModel model_;
  ReferenceScores reference_, validation_reference_;
  Trainer trainer_;
  MetricsLog metrics_;
  RunState state_;
  std::optional<EventFile> events_;
  Clock::time_point begin_ = Clock::now();  // of the run, as if it had never been interrupted
  // In seconds since then: the last step, the last logged step; and the tokens seen until the latter.
  double last_step_ = 0.0, logged_ = 0.0;
  int64_t logged_tokens_ = 0;
};

// A frozen base, its matrices packed as for inference, with an adapter that changes nothing yet.
TrainingModel make_adapted_model(const Recipe& recipe, Device device) {
  TrainingModel made;
  const LoadOptions options = frozen_options(recipe.training, device);
  made.loaded = open_model(recipe.model.checkpoint, options);
  made.base = {recipe.model.checkpoint, made.loaded.checkpoint.fingerprint()};
  attach_adapter(made.model(), recipe);
  initialise_adapter(made.model(), recipe.training.seed);
  made.loaded = load_weights(std::move(made.loaded), options);
  move_weights(made.model(), device);
  return made;
}

}  // namespace

LoadOptions frozen_options(const TrainingRecipe& training, Device device) {
  const bool is_bfloat16 = training.dtype == TrainingRecipe::Dtype::bfloat16;
  return {.dtype = is_bfloat16 ? ComputeDtype::bfloat16 : ComputeDtype::float32, .device = device};
}

void attach_adapter(CausalLM& model, const Recipe& recipe) {
  const AdapterRecipe& r = *recipe.adapter;
  AdapterConfig config;
  config.rank = r.rank, config.alpha = r.alpha, config.dropout = r.dropout;
  config.rank_stabilised = r.rank_stabilised;
  config.targets = r.targets, config.pattern = r.target_pattern, config.parameters = r.target_parameters;
  attach_adapter(model, config, "recipe: adapter.targets");
  for (const NamedParameter& named : named_parameters(model)) named.parameter->trainable = false;
}

ModelConfig training_config(const Recipe& recipe) {
  if (!recipe.model.checkpoint.empty()) return open_model(recipe.model.checkpoint).model->config;
  if (!recipe.model.config.empty()) return *read_config(recipe.model.config, family_configs());
  return read_config_yaml(YAML::Load(recipe.model.architecture), "model.architecture", family_configs());
}

TrainingModel make_training_model(const Recipe& recipe, const Tokenizer* tokenizer, Device device,
                                  Communicator& ranks) {
  TrainingModel made;
  if (recipe.adapter) return make_adapted_model(recipe, device);
  if (!recipe.model.checkpoint.empty()) {
    made.loaded = load_model(recipe.model.checkpoint,
                             {.dtype = ComputeDtype::float32, .trainable = true, .device = device, .ranks = &ranks});
    return made;
  }
  ModelConfig config = training_config(recipe);
  if (tokenizer != nullptr) {
    config.bos_token_id = tokenizer->bos();
    config.eos_token_ids.clear();
    if (const auto eos = tokenizer->eos()) config.eos_token_ids.push_back(*eos);
  }
  made.fresh = make_rank_model(family_of(config), config, ranks, true);
  initialise(*made.fresh, recipe.training.seed);
  move_weights(*made.fresh, device);
  return made;
}

bool run_training(const Recipe& recipe, const std::string& folder, const RunOptions& options,
                  const RunCallbacks& callbacks) {
  check(!recipe.data.train.empty(), "recipe",
        "data.train is missing: expected files or folders of text, .jsonl or .npy");
  if (const int64_t shares = recipe.training.tensor_parallel; shares > 1 && shares != options.ranks->size())
    throw Error(fmt::format("train: training.tensor_parallel: expected 1 or the number of processes, {}, found {}",
                            options.ranks->size(), shares),
                fmt::format("mpirun -np {} lathe train ...", shares));
  first_rank_first(*options.ranks, [&] {
    if (options.ranks->is_first()) open_folder(recipe, folder, options.resume);
    return true;
  });
  return Run(recipe, folder, options, callbacks).go();
}

}  // namespace lathe
