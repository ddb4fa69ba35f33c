// Byte-level BPE learnt from text: the merges that the library `tokenizers` 0.23.3 finds (BpeTrainer behind ByteLevel),
// and files that load. scripts/check_tokenizers.py compares live.
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/train_bpe.h"
#include "text/unicode/utf8.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr const char* kText =
    "low low low lower lower newest newest newest widest\nthe lowest -- --- ----- -------\n\n\n  don't 10 100 \xC3\xA9 "
    "\xC3\xA9\xC3\xA9\n";

NewVocabulary learn(std::string_view text, int64_t size, std::vector<std::string> special = {"<|endoftext|>"},
                    int64_t min_frequency = 0) {
  BpeTrainer trainer;
  trainer.add(text);
  return trainer.train({size, std::move(special), min_frequency});
}

std::string merges_of(const NewVocabulary& vocabulary) {
  std::string text;
  for (const auto& [left, right] : vocabulary.merges)
    text += (text.empty() ? "" : " ") + vocabulary.tokens[static_cast<size_t>(left)] + "+" +
            vocabulary.tokens[static_cast<size_t>(right)];
  return text;
}

std::shared_ptr<const Tokenizer> load(const NewVocabulary& vocabulary) {
  const TemporaryDirectory folder;
  write_file(folder.path() / "tokenizer.json", tokenizer_json(vocabulary));
  write_file(folder.path() / "tokenizer_config.json", tokenizer_config_json(vocabulary));
  return Tokenizer::load(folder.path().string());
}

}  // namespace

TEST_CASE("BPE: merges by count, then by the smaller ids, as the library finds them") {
  const NewVocabulary vocabulary = learn(kText, 290);
  CHECK(vocabulary.tokens.size() == 290);
  CHECK(merges_of(vocabulary) ==
        "-+- l+o w+e s+t Ġ+lo Ġ+-- we+st e+west n+ewest Ã+© Ġ+newest 1+0 Ġ+Ã© Ġ+10 --+- we+r Ġlo+w Ġlo+wer '+t d+e d+o "
        "h+e i+de t+he w+ide Ġ+do Ġ+wide --+--- lo+w Ġlo+west Ġ--+- Ġ--+--- Ġ--+-----");
  CHECK(vocabulary.tokens[0] == "<|endoftext|>");
  CHECK(vocabulary.tokens[1] == "!");
  CHECK(vocabulary.tokens[256] == "Ń");
  CHECK(vocabulary.tokens[257] == "--");
}

TEST_CASE("BPE: it stops where no pair is left, or none that occurs often enough") {
  const NewVocabulary all = learn("ab ab", 400);
  CHECK(merges_of(all) == "a+b Ġ+ab");
  CHECK(merges_of(learn("ab ab", 400, {}, 2)) == "a+b");
  CHECK(merges_of(learn(kText, 400, {"<|endoftext|>"}, 3)) ==
        "-+- l+o w+e s+t Ġ+lo Ġ+-- we+st e+west n+ewest Ã+© Ġ+newest");
  CHECK_THROWS_WITH(learn("ab", 256), ContainsSubstring("to have 256 tokens, expected at least 257"));
  CHECK(learn("ab", 256, {}).merges.empty());
  CHECK(learn("", 300).tokens.size() == 257);
  CHECK_THROWS_WITH(learn("a\xFF", 300), ContainsSubstring("byte"));
}

TEST_CASE("BPE: the files load, and every text comes back") {
  const NewVocabulary vocabulary = learn(kText, 290, {"<|endoftext|>", "<|\"x\"|>", "<|endoftext|>"});
  const auto tokenizer = load(vocabulary);
  CHECK(tokenizer->vocab_size() == 290);
  CHECK(tokenizer->eos() == 0);
  CHECK(tokenizer->special_tokens() == std::vector<int32_t>{0, 1});
  std::string bytes;
  for (int c = 1; c < 0x250; ++c) append_character(bytes, static_cast<char32_t>(c));
  for (const std::string& text : {std::string(kText), bytes, std::string("\r\n\t <|endoftext|> \\ \"")})
    CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
  CHECK(tokenizer->encode(" newest<|\"x\"|>") == std::vector<int32_t>{*tokenizer->token_id("Ġnewest"), 1});
}

TEST_CASE("BPE: a merge that spells a special token is that token") {
  const NewVocabulary vocabulary = learn("ab ab abc", 400, {"ab"});
  CHECK(merges_of(vocabulary) == "a+b Ġ+ab Ġab+c");
  CHECK(vocabulary.tokens.size() == 259);
}

TEST_CASE("lathe tokenizer train: writes a vocabulary that lathe tokenize reads") {
  const TemporaryDirectory folder;
  const std::string text = (folder.path() / "a.raw").string(), output = (folder.path() / "made.json").string();
  write_file(text, kText);
  const CommandResult trained = run_lathe({"tokenizer", "train", "--text-file", text, text, "--vocab-size", "290",
                                           "--special-token", "<s>", "--special-token", "</s>", "--output", output});
  CHECK(trained.exit_code == 0);
  CHECK_THAT(trained.standard_error, ContainsSubstring("290 tokens, 32 merges"));
  CHECK(run_lathe({"tokenize", "--tokenizer", output, "--text", "</s>"}).standard_output == "1\n");

  const auto refused = [](const std::vector<std::string>& arguments, int exit_code, const char* message) {
    const CommandResult result = run_lathe(arguments);
    CHECK(result.exit_code == exit_code);
    CHECK_THAT(result.standard_error, ContainsSubstring(message));
  };
  refused({"tokenizer", "train", "--text-file", text, "--vocab-size", "290", "--output", text}, 1,
          "a file that is read");
  refused({"tokenizer", "train", "--text-file", text, "--vocab-size", "200", "--output", output}, 1, "at least 257");
  refused({"tokenizer", "train", "--text-file", text + ".none", "--vocab-size", "290", "--output", output}, 1,
          "cannot open");
  refused({"tokenizer", "train", "--vocab-size", "290", "--output", output}, 2, "--text-file is required");
  refused({"tokenizer"}, 2, "subcommand");
  write_file(text, "a\xFF");
  refused({"tokenizer", "train", "--text-file", text, "--vocab-size", "290", "--output", output}, 1,
          "a.raw: tokenizer");
  write_file(text, "");
  refused({"tokenizer", "train", "--text-file", text, "--vocab-size", "290", "--output", output}, 1, "is empty");
  CHECK(run_lathe({"help", "tokenizer", "train"}).exit_code == 0);
}
