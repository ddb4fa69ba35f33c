// lathe tokenizer train: a byte-level vocabulary from text.
#include <fmt/core.h>

#include <memory>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "formats/atomic_file.h"
#include "formats/mapped_file.h"
#include "tensor/errors.h"
#include "text/tokenizer/train_bpe.h"

namespace lathe {
namespace {

struct TokenizerTrainOptions {
  std::vector<std::string> text_files;
  std::string output;
  BpeTrainerOptions trainer;
};

void run_tokenizer_train(const TokenizerTrainOptions& o) {
  BpeTrainer trainer;
  for (const std::string& path : o.text_files) {
    const auto file = MappedFile::open(path);
    try {
      trainer.add({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()});
    } catch (const Error& e) {
      throw Error(path + ": " + e.what(), e.hint());
    }
  }
  const NewVocabulary vocabulary = trainer.train(o.trainer);
  AtomicFile output(o.output);
  output.write(tokenizer_json(vocabulary));
  output.commit();
  const auto tokens = static_cast<int64_t>(vocabulary.tokens.size());
  fmt::print(stderr, "lathe: {}: {} tokens, {} merges{}\n", o.output, tokens, vocabulary.merges.size(),
             tokens < o.trainer.vocab_size ? "; no pair is left to merge" : "");
}

}  // namespace

void add_tokenizer(CommandLine& app) {
  const auto o = std::make_shared<TokenizerTrainOptions>();
  const Command command =
      app.add("tokenizer", "make a vocabulary").add("train", "learn a byte-level BPE vocabulary from text");
  command.option("--text-file", o->text_files, "a UTF-8 text; one or more").required();
  command.option("--vocab-size", o->trainer.vocab_size, "tokens in all: special ones, 256 bytes, merges")
      .required()
      .positive();
  command.output("--output", o->output, "the tokenizer.json to write").required();
  command
      .option("--special-token", o->trainer.special_tokens,
              "a token of its own; the first one ends texts; may be repeated")
      .shows_default();
  command.option("--min-frequency", o->trainer.min_frequency, "how often a pair occurs that merges").shows_default();
  command.example(
      "Example: lathe tokenizer train --text-file data/train.txt --vocab-size 4096 --output tokenizer.json");
  command.run([o] { run_tokenizer_train(*o); });
}

}  // namespace lathe
