#include "generate/chat_model.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "generate/generate.h"
#include "generate/inference_plan.h"
#include "text/chat_template/encode_chat.h"

namespace lathe {
namespace {

LoadedModel load_if_it_fits(const std::string& model, const LoadOptions& options) {
  LoadedModel opened = open_model(model, options);
  check_memory(opened, opened.cache_dtype, options);
  return load_weights(std::move(opened), options);
}

}  // namespace

ChatModel::ChatModel(const std::string& model, const LoadOptions& options)
    : ChatModel(load_if_it_fits(model, options), {}) {
  engine_options_.cache_dtype = loaded_.cache_dtype;
}

ChatModel::ChatModel(LoadedModel loaded, EngineOptions options)
    : loaded_(std::move(loaded)), engine_options_(std::move(options)) {
  const Checkpoint& c = loaded_.checkpoint;
  try {
    tokenizer_ = Tokenizer::load(c.format == CheckpointFormat::gguf ? c.path : c.folder);
  } catch (const Error& e) {
    tokenizer_problem_ = e;
  }
  sampling_ = sampling_defaults(c.generation);
  stop_tokens_ = stop_tokens(loaded_, tokenizer_.get());
}

const std::shared_ptr<const Tokenizer>& ChatModel::tokenizer() const {
  if (!tokenizer_) throw *tokenizer_problem_;
  return tokenizer_;
}

Engine& ChatModel::engine() {
  if (!engine_) engine_ = std::make_unique<Engine>(*loaded_.model, tokenizer_, engine_options_);
  return *engine_;
}

void ChatModel::set_chat_template(std::string source) {
  ChatTemplate::parse(source);
  given_template_ = std::move(source);
}

const std::string& ChatModel::chat_template(bool for_tools) const {
  if (given_template_) return *given_template_;
  return chat_template_of(*tokenizer(), loaded_.checkpoint.path, for_tools);
}

std::vector<int32_t> ChatModel::encode(const ChatTemplate::Inputs& inputs) const {
  const std::string& source = chat_template(!inputs.tools.is_null());
  return encode_chat(*tokenizer_, ChatTemplate::parse(source, loaded_.checkpoint.path), inputs);
}

Request ChatModel::request(std::vector<int32_t> prompt) const {
  Request r;
  r.prompt = std::move(prompt);
  r.sampling = sampling_;
  r.stop_tokens = stop_tokens_;
  return r;
}

std::string ChatModel::answer(std::string_view question, int64_t max_new_tokens) {
  ChatTemplate::Inputs inputs = chat_inputs(*tokenizer());
  inputs.messages.push_back({{"role", "user"}, {"content", question}});
  Request asked = request(encode(inputs));
  asked.max_new_tokens = max_new_tokens;
  const Completion completion = generate(engine(), {asked}).completions.at(0).at(0);
  if (completion.finish_reason == FinishReason::error) throw Error(completion.error);
  return *completion.text;
}

}  // namespace lathe
