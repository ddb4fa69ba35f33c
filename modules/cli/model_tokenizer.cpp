// The vocabulary and the chat template of what --model names (declared in model_options.h).
#include <fmt/core.h>

#include <filesystem>

#include "cli/model_options.h"

namespace lathe {

std::shared_ptr<const Tokenizer> load_tokenizer_file(const std::string& path, const std::string& pattern) {
  auto tokenizer = Tokenizer::load(path, pattern);
  for (const std::string& warning : tokenizer->warnings()) fmt::print(stderr, "lathe: warning: {}\n", warning);
  return tokenizer;
}

std::shared_ptr<const Tokenizer> load_tokenizer(const Checkpoint& checkpoint) {
  return load_tokenizer_file(checkpoint.format == CheckpointFormat::gguf ? checkpoint.path : checkpoint.folder);
}

std::shared_ptr<const Tokenizer> load_tokenizer_of(const std::string& model, const std::string& pattern) {
  const std::filesystem::path path = resolve_model(model, family_configs());
  const bool weights = path.extension() == ".safetensors" || path.extension() == ".bin";
  return load_tokenizer_file(weights ? path.parent_path().string() : path.string(), pattern);
}

std::string chat_template_of(const Tokenizer& tokenizer, const std::string& model, bool for_tools) {
  if (const auto found = tokenizer.chat_templates().find("tool_use");
      for_tools && found != tokenizer.chat_templates().end())
    return found->second;
  if (tokenizer.chat_template()) return *tokenizer.chat_template();
  throw Error(fmt::format("{}: the model has no chat template", model),
              "a base model completes text: give it a --prompt without --chat");
}

}  // namespace lathe
