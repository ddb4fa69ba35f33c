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

}  // namespace lathe
