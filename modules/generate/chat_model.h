// A model that one can talk to: the weights with their tokenizer, chat template, sampling defaults, stop tokens and
// one engine.
//
//   lathe::ChatModel model("models/SmolLM2-135M-Instruct.Q4_1.gguf", {lathe::ComputeDtype::float32});
//   std::cout << model.answer("What is the capital of France?") << "\n";
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "generate/engine.h"
#include "generate/request.h"
#include "llm/load.h"
#include "text/chat_template/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

class ChatModel {
 public:
  // `model` as load_model takes it. Throws what load_model and check_memory (generate/inference_plan.h) throw.
  explicit ChatModel(const std::string& model, const LoadOptions& options = {});
  // A model that is loaded already, with an engine of these options. Where no tokenizer lies with the checkpoint, the
  // model takes and gives ids.
  ChatModel(LoadedModel loaded, EngineOptions options);

  const LoadedModel& loaded() const { return loaded_; }
  bool has_tokenizer() const { return tokenizer_ != nullptr; }
  // Throws the Error of Tokenizer::load where there is none.
  const std::shared_ptr<const Tokenizer>& tokenizer() const;
  // Made at first use, so that a model that is only looked at has no key-value cache.
  Engine& engine();

  // Takes the place of the model's own chat template, with tools and without. Throws Error where it is none.
  void set_chat_template(std::string source);
  bool has_chat_template() const { return tokenizer_ && (given_template_ || tokenizer_->chat_template()); }
  // Its chat template; with `for_tools` the one that it calls tool_use, where it has it. Throws Error where it has
  // none.
  const std::string& chat_template(bool for_tools = false) const;
  // Ids of a conversation through the model's template; `inputs` from chat_inputs (text/chat_template/encode_chat.h).
  // Throws Error where the model has no template.
  std::vector<int32_t> encode(const ChatTemplate::Inputs& inputs) const;
  // A request with the model's own sampling and stop tokens, to change and to submit to engine().
  Request request(std::vector<int32_t> prompt) const;

  // The answer to one user's message, sampled as the model's files say. Throws Error where `encode` or the engine does,
  // or the model gives no usable logits.
  std::string answer(std::string_view question, int64_t max_new_tokens = 512);

 private:
  LoadedModel loaded_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<Error> tokenizer_problem_;
  std::optional<std::string> given_template_;
  SamplingParameters sampling_;
  std::vector<int32_t> stop_tokens_;
  EngineOptions engine_options_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace lathe
