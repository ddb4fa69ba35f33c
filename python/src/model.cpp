#include "python/src/model.h"

#include <filesystem>

#include "config/model_config.h"
#include "generate/inference_plan.h"
#include "llm/trace.h"
#include "tensor/interruption.h"

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

int64_t context_of(LoadedModel& loaded, int64_t asked) {
  const ModelConfig& config = loaded.model->config;
  const int64_t limit = config.context_limit();
  if (asked == 0) return limit;
  check(asked > 0 && asked <= int64_t{1} << 31, "context", "expected 1 to 2^31, found {}", asked);
  if (asked <= limit) return asked;
  check(config.uses_rope(), "context", "{} exceeds the model's {} learned positions", asked, limit);
  loaded.warnings.push_back(
      fmt::format("context {} is beyond the {} positions that the model was trained for", asked, limit));
  return asked;
}

std::shared_ptr<Drafter> make_drafter(const LoadedModel& target, const ModelSettings& settings,
                                      const EngineOptions& engine, LoadProgress& progress) {
  if (settings.speculate.empty()) return nullptr;
  if (settings.speculate == "ngram") return make_ngram_drafter();
  ModelSettings draft_settings = settings;
  draft_settings.load.trainable = false;
  progress.bytes_read = 0;
  LoadedModel draft = load_what_fits(settings.speculate, draft_settings, progress);
  const int64_t found = draft.model->config.vocab_size, expected = target.model->config.vocab_size;
  check(found == expected, "speculate", "{} has a vocabulary of {} tokens, the model that it guesses for one of {}",
        settings.speculate, found, expected);
  return make_model_drafter(std::move(draft.model), draft.cache_dtype, engine.context, engine.max_sequences);
}

}  // namespace

Model::Model(const std::string& path, const ModelSettings& settings, LoadProgress& progress)
    : loaded_(load_what_fits(path, settings, progress)), context_(context_of(loaded_, settings.context)) {
  const Checkpoint& c = loaded_.checkpoint;
  try {
    tokenizer_ = Tokenizer::load(c.format == CheckpointFormat::gguf ? c.path : c.folder);
  } catch (const Error& e) {
    tokenizer_problem_ = e.what();
  }
  sampling_ = sampling_defaults(c.generation);
  stop_tokens_ = stop_tokens(loaded_, tokenizer_.get());
  engine_options_.cache_dtype = loaded_.cache_dtype;
  engine_options_.kv_memory = settings.kv_memory;
  engine_options_.context = context_;
  engine_options_.drafter = make_drafter(loaded_, settings, engine_options_, progress);
}

const std::shared_ptr<const Tokenizer>& Model::tokenizer() const {
  if (!tokenizer_) throw Error(tokenizer_problem_, "without a tokenizer the model takes and gives ids");
  return tokenizer_;
}

Request Model::request(std::vector<int32_t> prompt) const {
  Request r;
  r.prompt = std::move(prompt);
  r.sampling = sampling_;
  r.stop_tokens = stop_tokens_;
  return r;
}

template <class F>
auto Model::exclusively(const Poll& poll, F&& f) {
  const Computing computing(poll);
  const Turn turn(turns_, poll);
  return f();
}

template <class F>
auto Model::over(std::span<const int32_t> tokens, const Poll& poll, F&& f) {
  const auto count = std::ssize(tokens);
  const int64_t vocabulary = loaded_.model->config.vocab_size;
  check(count > 0, "tokens", "expected at least one, found none");
  for (size_t i = 0; i < tokens.size(); ++i)
    check(tokens[i] >= 0 && tokens[i] < vocabulary, "tokens", "number {} is {}, the vocabulary has {} tokens", i,
          tokens[i], vocabulary);
  if (count > context_)
    throw Error(fmt::format("tokens: found {}, the context holds {}", count, context_),
                "give fewer, or load a rotary model with a larger context");
  return exclusively(poll, [&] {
    const Interruption asking(poll);
    return f();
  });
}

Tensor Model::hidden(std::span<const int32_t> tokens, const Poll& poll) {
  return over(tokens, poll, [&] { return hidden_states(*loaded_.model, tokens); });
}

Tensor Model::logits(std::span<const int32_t> tokens, const Poll& poll) {
  return over(tokens, poll, [&] { return all_logits(*loaded_.model, tokens, loaded_.cache_dtype); });
}

NamedTensors Model::trace(std::span<const int32_t> tokens, const std::string& filter, const Poll& poll) {
  return over(tokens, poll, [&] { return lathe::trace(*loaded_.model, tokens, filter); });
}

NamedTensors Model::gradients(std::span<const int32_t> tokens, const Poll& poll) {
  require_trainable("gradients");
  return over(tokens, poll, [&] {
    check(tokens.size() > 1, "tokens", "expected at least two, found one, which has no next token to score");
    return loss_and_gradients(loaded_, tokens);
  });
}

void Model::require_trainable(const char* what) const {
  for (const NamedParameter& p : named_parameters(*loaded_.model))
    if (p.parameter->packed)
      throw Error(fmt::format("{}: the weights are packed for inference", what), "load the model with trainable=True");
}

NamedTensors Model::parameters() {
  require_trainable("parameters");
  editable_ = true;
  NamedTensors all;
  for (const NamedParameter& p : named_parameters(*loaded_.model)) all.emplace_back(p.name, p.parameter->value);
  return all;
}

std::vector<std::string> Model::save(const std::string& output, const ExportOptions& options, const Poll& poll) {
  return exclusively(poll, [&] {
    const Interruption asking(poll);
    return export_model(loaded_, output, options);
  });
}

Engine& Model::engine() {
  if (!engine_) engine_ = std::make_unique<Engine>(*loaded_.model, tokenizer_, engine_options_);
  std::vector<RequestId> abandoned;
  {
    const std::lock_guard lock(abandoned_mutex_);
    abandoned.swap(abandoned_);
  }
  for (const RequestId id : abandoned) engine_->cancel(id);
  return *engine_;
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
