#include "cli/tokenizer_options.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/command_line.h"
#include "cli/model_options.h"
#include "formats/strict_json.h"
#include "tensor/errors.h"

namespace lathe {

void TokenizerOptions::declare(const Command& command) {
  const Option by_model = command.option("--model", model, "folder, file, or name of a model");
  const Option by_file = command.option(
      "--tokenizer", tokenizer,
      "tokenizer.json, sentencepiece's .model, tekken.json, tiktoken's ranks, vocab.json or merges.txt, vocab.bpe "
      "(encoder.json beside it), vocab.txt, .gguf");
  by_model.excludes(by_file);
  command.option("--pattern", pattern,
                 "gpt2, llama3, qwen or a regular expression: how text is cut before bytes merge, for files that "
                 "do not say (tiktoken's ranks, vocab.json); each match is a piece, and so is what lies between "
                 "two. A name brings the published special tokens, qwen normal form C too. Without it "
                 "tokenizer_config.json decides");
}

std::shared_ptr<const Tokenizer> TokenizerOptions::load() const {
  if (!tokenizer.empty()) return load_tokenizer_file(tokenizer, pattern);
  if (model.empty()) throw UsageError("expected --model or --tokenizer, found neither");
  return load_tokenizer_of(model, pattern);
}

void for_each_line(const std::string& path, const std::function<void(const OrderedJsonNode&)>& f) {
  for_each_json_line(read_text(path), path, [&](const nlohmann::ordered_json& value, const std::string& where) {
    f({value, where, ": "});
  });
}

}  // namespace lathe
