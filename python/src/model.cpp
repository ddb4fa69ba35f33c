#include "python/src/model.h"

#include <nlohmann/json.hpp>

#include "chat_template/encode_chat.h"
#include "generate/inference_plan.h"

namespace lathe::python {
namespace {

LoadedModel load_what_fits(const std::string& path, const LoadOptions& options, LoadProgress& progress) {
  LoadedModel opened = open_model(path, options);
  check_memory(opened, opened.cache_dtype, options);
  return load_weights(std::move(opened), options, &progress);
}

}  // namespace

Model::Model(const std::string& path, const LoadOptions& options, LoadProgress& progress)
    : loaded_(load_what_fits(path, options, progress)) {
  const Checkpoint& c = loaded_.checkpoint;
  try {
    tokenizer_ = Tokenizer::load(c.format == CheckpointFormat::gguf ? c.path : c.folder);
  } catch (const Error& e) {
    tokenizer_problem_ = e.what();
  }
}

const std::shared_ptr<const Tokenizer>& Model::tokenizer() const {
  if (!tokenizer_) throw Error(tokenizer_problem_, "without a tokenizer the model takes and gives ids");
  return tokenizer_;
}

std::vector<int32_t> Model::encode(const std::string& text) const { return tokenizer()->encode(text); }

std::vector<int32_t> Model::encode_messages(const std::string& json) const {
  const Tokenizer& t = *tokenizer();
  if (!t.chat_template())
    throw Error(loaded_.checkpoint.path + ": the model has no chat template",
                "a base model continues text: give it a str");
  ChatTemplate::Inputs inputs = chat_inputs(t);
  inputs.messages = nlohmann::ordered_json::parse(json);
  return encode_chat(t, ChatTemplate::parse(*t.chat_template()), inputs);
}

Request Model::request(std::vector<int32_t> prompt) const {
  Request r;
  r.prompt = std::move(prompt);
  r.sampling = sampling_defaults(loaded_.checkpoint.generation);
  r.stop_tokens = stop_tokens(loaded_, tokenizer_.get());
  return r;
}

Engine& Model::engine() {
  if (!engine_) {
    EngineOptions options;
    options.cache_dtype = loaded_.cache_dtype;
    engine_ = std::make_unique<Engine>(*loaded_.model, tokenizer_, options);
  }
  return *engine_;
}

Stream::Stream(Model& model, const Request& request) : model_(model) {
  id_ = model_.exclusively([&] {
    return model_.engine().submit(request, [events = events_](const GenerationEvent& e) { events->push_back(e); });
  });
}

Stream::~Stream() {
  if (!completion_) model_.exclusively([&] { model_.engine().cancel(id_); });
}

std::optional<GenerationEvent> Stream::next(const std::function<void()>& between_steps) {
  while (!completion_) {
    const bool found = model_.exclusively([&] {
      if (events_->empty()) model_.engine().step();
      return !events_->empty();
    });
    if (!found) {
      between_steps();
      continue;
    }
    GenerationEvent event = std::move(events_->front());
    events_->pop_front();
    completion_ = event.completion;
    if (completion_ && completion_->finish_reason == FinishReason::error) throw Error(completion_->error);
    return event;
  }
  return std::nullopt;
}

const Completion& Stream::result(const std::function<void()>& between_steps) {
  while (next(between_steps)) between_steps();
  return *completion_;
}

}  // namespace lathe::python
