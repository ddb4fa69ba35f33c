#include "python/src/model.h"

#include <filesystem>

#include "generate/inference_plan.h"
#include "generate/sequence_cache.h"
#include "llm/adapter_file.h"
#include "llm/trace.h"
#include "tensor/interruption.h"
#include "train/trainer.h"

namespace lathe::python {
namespace {

LoadedModel load_what_fits(const std::string& path, const ModelSettings& settings, LoadProgress& progress) {
  LoadedModel opened = open_model(path, settings.load);
  opened.cache_dtype = settings.cache_dtype.value_or(opened.cache_dtype);
  // Files beside it are read later, too, from another folder perhaps.
  for (std::string* name : {&opened.checkpoint.path, &opened.checkpoint.folder})
    *name = std::filesystem::absolute(*name).string();
  check_memory(opened, opened.cache_dtype, settings.load);
  return load_weights(std::move(opened), settings.load, &progress);
}

std::shared_ptr<Drafter> make_drafter(const LoadedModel& target, const ModelSettings& settings,
                                      const EngineOptions& engine, LoadProgress& progress) {
  if (settings.speculate.empty()) return nullptr;
  if (settings.speculate == "ngram") return make_ngram_drafter();
  ModelSettings draft_settings = settings;
  draft_settings.load.trainable = false;
  draft_settings.load.adapter.clear();
  progress.bytes_read = 0;
  LoadedModel draft = load_what_fits(settings.speculate, draft_settings, progress);
  return make_model_drafter(std::move(draft.model), *target.model, draft.cache_dtype, engine.context,
                            engine.max_sequences);
}

ChatModel make_chat_model(const std::string& path, const ModelSettings& settings, LoadProgress& progress) {
  LoadedModel loaded = load_what_fits(path, settings, progress);
  const ModelSizes& sizes = loaded.model->sizes;
  EngineOptions options;
  options.cache_dtype = loaded.cache_dtype;
  options.kv_memory = settings.kv_memory;
  options.context = sizes.context_limit(settings.context);
  if (options.context > sizes.context_limit())
    loaded.warnings.push_back(fmt::format("context {} is beyond the {} positions that the model was trained for",
                                          options.context, sizes.context_limit()));
  options.drafter = make_drafter(loaded, settings, options, progress);
  return {std::move(loaded), std::move(options)};
}

}  // namespace

Model::Model(const std::string& path, const ModelSettings& settings, LoadProgress& progress)
    : chat_(make_chat_model(path, settings, progress)),
      context_(loaded().model->sizes.context_limit(settings.context)) {}

void Model::check_tokens(std::span<const int32_t> tokens) const {
  const auto count = std::ssize(tokens);
  const int64_t vocabulary = loaded().model->sizes.vocab_size;
  check(count > 0, "tokens", "expected at least one, found none");
  for (size_t i = 0; i < tokens.size(); ++i)
    check(tokens[i] >= 0 && tokens[i] < vocabulary, "tokens", "number {} is {}, the vocabulary has {} tokens", i,
          tokens[i], vocabulary);
  if (count > context_)
    throw Error(fmt::format("tokens: found {}, the context holds {}", count, context_),
                "give fewer, or load a rotary model with a larger context");
}

template <class F>
auto Model::over(std::span<const int32_t> tokens, const Poll& poll, F&& f) {
  check_tokens(tokens);
  return exclusively(poll, [&] {
    const Interruption asking(poll);
    return f();
  });
}

Tensor Model::hidden(std::span<const int32_t> tokens, const Poll& poll) {
  return over(tokens, poll, [&] { return hidden_states(*loaded().model, tokens); });
}

Tensor Model::logits(std::span<const int32_t> tokens, const Poll& poll) {
  return over(tokens, poll, [&] { return all_logits(*loaded().model, tokens, loaded().cache_dtype); });
}

NamedTensors Model::trace(std::span<const int32_t> tokens, const std::string& filter, const Poll& poll) {
  return over(tokens, poll, [&] { return lathe::trace(*loaded().model, tokens, filter); });
}

NamedTensors Model::gradients(std::span<const int32_t> tokens, const Poll& poll) {
  require_trainable("gradients");
  return over(tokens, poll, [&] {
    check(tokens.size() > 1, "tokens", "expected at least two, found one, which has no next token to score");
    return loss_and_gradients(loaded(), tokens);
  });
}

TrainingRows Model::rows_of(const Sequences& sequences) const {
  check(!sequences.empty(), "tokens", "expected at least one sequence, found none");
  TrainingRows rows;
  rows.seq_start.push_back(0);
  for (const std::span<const int32_t> tokens : sequences) {
    check_tokens(tokens);
    check(tokens.size() > 1, "tokens", "expected at least two, found one, which has no next token to score");
    rows.tokens.insert(rows.tokens.end(), tokens.begin(), tokens.end() - 1);
    rows.targets.insert(rows.targets.end(), tokens.begin() + 1, tokens.end());
    rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
  }
  rows.target_count = std::ssize(rows.targets);
  return rows;
}

Tensor Model::log_probabilities(const Sequences& sequences, const Poll& poll) {
  const TrainingRows rows = rows_of(sequences);
  return exclusively(poll, [&] {
    const Interruption asking(poll);
    const CausalLM& model = *loaded().model;
    return answer_log_probabilities(model, make_training_batch(model, rows), rows);
  });
}

const ParameterArena& Model::arena() {
  if (arena_) return *arena_;
  for (const NamedParameter& p : named_parameters(*loaded().model))
    if (p.parameter->trainable && p.parameter->value.storage().use_count() > 1)
      throw Error(fmt::format("Trainer: an array of {} from model.parameters is still there, and the weights will move",
                              p.name),
                  "make the trainer first, or let go of the arrays");
  arena_ = std::make_unique<ParameterArena>(*loaded().model);
  return *arena_;
}

void Model::require_trainable(const char* what) const {
  for (const NamedParameter& p : named_parameters(*loaded().model))
    if (p.parameter->packed)
      throw Error(fmt::format("{}: the weights are packed for inference", what), "load the model with trainable=True");
}

bool Model::trains_adapter() const {
  const std::vector<NamedParameter> changes = adapter_parameters(*loaded().model);
  return std::any_of(changes.begin(), changes.end(), [](auto& p) { return p.parameter->trainable; });
}

NamedTensors Model::parameters() {
  require_trainable("parameters");
  editable_ = true;
  NamedTensors all;
  for (const NamedParameter& p : named_parameters(*loaded().model)) all.emplace_back(p.name, p.parameter->value);
  return all;
}

std::vector<std::string> Model::save(const std::string& output, const ExportOptions& options, const Poll& poll) {
  return exclusively(poll, [&] {
    const Interruption asking(poll);
    if (!trains_adapter()) return export_model(loaded(), output, options);
    check(!options.dtype && !options.quantize, "save", "an adapter is written in float32, without dtype and quantize");
    const std::string& base = loaded().checkpoint.path;
    write_adapter(*loaded().model, {base, open_model(base).checkpoint.fingerprint()}, output);
    return std::vector<std::string>();
  });
}

Engine& Model::engine() {
  Engine& engine = chat_.engine();
  std::vector<RequestId> abandoned;
  {
    const std::lock_guard lock(abandoned_mutex_);
    abandoned.swap(abandoned_);
  }
  for (const RequestId id : abandoned) engine.cancel(id);
  return engine;
}

void Model::abandon(RequestId request) {
  const std::lock_guard lock(abandoned_mutex_);
  abandoned_.push_back(request);
}

Stream::Stream(std::shared_ptr<Model> model, Request request, const Poll& poll) : model_(std::move(model)) {
  id_ = model_->exclusively(poll, [&] {
    if (model_->editable_) request.prefix_cache = false;
    return model_->engine().submit(request, [events = events_](const GenerationEvent& e) { events->push_back(e); });
  });
}

Stream::~Stream() {
  if (!completion_) model_->abandon(id_);
}

void Stream::take_completion(const GenerationEvent& event) {
  if (event.completion) completion_ = event.completion;
}

std::optional<GenerationEvent> Stream::next(const Poll& poll) {
  std::optional<GenerationEvent> event;
  bool over = false;
  while (!event && !over) {
    if (poll) poll();
    model_->exclusively(poll, [&] {
      over = completion_.has_value();
      if (over) return;
      if (events_->empty()) model_->engine().step();
      if (events_->empty()) return;
      event = std::move(events_->front());
      events_->pop_front();
      take_completion(*event);
    });
  }
  if (event && event->completion && event->completion->finish_reason == FinishReason::error)
    throw Error(event->completion->error);
  return event;
}

Completion Stream::result(const Poll& poll) {
  while (next(poll)) {}
  return model_->exclusively(poll, [&] {
    if (completion_->finish_reason == FinishReason::error) throw Error(completion_->error);
    return *completion_;
  });
}

void Stream::close(const Poll& poll) {
  model_->exclusively(poll, [&] {
    model_->engine().cancel(id_);
    for (const GenerationEvent& event : *events_) take_completion(event);
    events_->clear();
  });
}

}  // namespace lathe::python
