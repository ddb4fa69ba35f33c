// Explanations: the steps are those of the encoding, so the ids are too, for every kind of model.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "tests/catch.h"
#include "tests/support.h"
#include "tests/text/tokenizer/vocabulary_forms.h"
#include "text/tokenizer/explanation.h"

using namespace lathe;
using namespace lathe::test;
using Ids = std::vector<int32_t>;
using Kind = ModelStep::Kind;

namespace {

// The ids of the tokens that are taken, and of the symbols that are left, when the steps of a piece have been followed
// one by one. Every merge must find its two symbols side by side.
Ids follow(const Explanation::Piece& piece) {
  Ids ids;
  std::map<size_t, std::pair<size_t, int32_t>> symbols;
  for (const ModelStep& step : piece.steps) {
    CHECK(step.end <= piece.text.size());
    if (step.kind == Kind::token) {
      ids.push_back(step.id);
      continue;
    }
    CHECK(step.begin < step.end);
    if (step.kind == Kind::merge) {
      REQUIRE(symbols.count(step.begin) == 1);
      REQUIRE(symbols.count(step.middle) == 1);
      CHECK(symbols[step.begin].first == step.middle);
      CHECK(symbols[step.middle].first == step.end);
      symbols.erase(step.middle);
    }
    symbols[step.begin] = {step.end, step.id};
  }
  for (const auto& [begin, symbol] : symbols) ids.push_back(symbol.second);
  return ids;
}

// On random text, with words remembered by `encode` and without.
void check_explanations(const Tokenizer& tokenizer, int rounds = 150) {
  std::mt19937 random(29);
  for (int round = 0; round < rounds; ++round) {
    const std::string text = random_text(random, round % 10 == 0 ? 400 : 40);
    INFO(tokenizer.kind() << ": " << text);
    const Explanation explanation = tokenizer.explain(text);
    CHECK(explanation.ids() == tokenizer.encode(text));
    std::string whole;
    for (const auto& stretch : explanation.stretches) {
      whole += stretch.text;
      for (const auto& piece : stretch.pieces) {
        const Ids ids = follow(piece);
        // A symbol that is no token is spelled in bytes, or unknown.
        if (!ids.empty() && std::count(ids.begin(), ids.end(), -1) == 0) CHECK(ids == piece.ids);
      }
    }
    CHECK(whole == text);
  }
}

}  // namespace

TEST_CASE("the steps of BPE: ranks, neighbours, results") {
  const auto tokenizer = load_json(byte_level_json({{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}}));
  const Explanation explanation = tokenizer->explain("hello!");
  CHECK(explanation.measure == "rank");
  REQUIRE(explanation.stretches.size() == 1);
  REQUIRE(explanation.stretches[0].pieces.size() == 2);
  const auto& piece = explanation.stretches[0].pieces[0];
  CHECK(piece.text == "hello");
  REQUIRE(piece.steps.size() == 5 + 4);
  CHECK(piece.steps[0].kind == Kind::symbol);
  CHECK(piece.steps[0].id == 'h');
  CHECK(std::isnan(piece.steps[0].weight));
  const ModelStep& last = piece.steps[8];
  CHECK(last.kind == Kind::merge);
  CHECK(last.begin == 0);
  CHECK(last.middle == 4);
  CHECK(last.end == 5);
  CHECK(last.id == 259);
  CHECK(last.weight == 3);
  CHECK(piece.ids == Ids{259});
}

TEST_CASE("an explanation shows added tokens and what goes round a text") {
  const Folder folder;
  folder.write("tekken.json", tekken_json(byte_tokens(), 4, {"<unk>", "<s>", "</s>", "[INST]"}));
  const auto tokenizer = folder.load();
  const EncodeOptions options{.parse_special = EncodeOptions::ParseSpecial::yes};
  const Explanation explanation = tokenizer->explain("hello[INST] w", options);
  CHECK(explanation.before == Ids{1});
  CHECK(explanation.after.empty());
  REQUIRE(explanation.stretches.size() == 3);
  CHECK(explanation.stretches[1].text == "[INST]");
  CHECK(explanation.stretches[1].token == 3);
  CHECK(explanation.stretches[2].text == " w");
  CHECK(explanation.ids() == tokenizer->encode("hello[INST] w", options));
  CHECK(explanation.stretches[0].pieces[0].steps[0].kind == Kind::token);  // the piece is a token: nothing merges
}

TEST_CASE("an explanation shows the normalised text") {
  const Folder folder;
  const std::string path = folder.write("x.tiktoken", tiktoken_ranks(byte_tokens()));
  const Explanation explanation = Tokenizer::load(path, "qwen")->explain("e\u0301");
  CHECK(explanation.stretches.at(0).text == "e\u0301");
  CHECK(explanation.stretches.at(0).normalized == "\u00e9");
}

TEST_CASE("explained ids are the encoded ids: vocabularies made here") {
  const Folder folder;
  folder.write("tekken.json", tekken_json(byte_tokens(), 4, {"<unk>", "<s>", "</s>", "[INST]"}));
  check_explanations(*folder.load());
  check_explanations(*Tokenizer::load(folder.write("x.tiktoken", tiktoken_ranks(byte_tokens())), "llama3"));
  check_explanations(*load_json(byte_level_json({{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}})));
  check_explanations(*load_json(metaspace_json({{"▁", "h"}, {"l", "l"}, {"▁h", "e"}, {"▁he", "ll"}})));
  write_two_files(folder.path());
  check_explanations(*Tokenizer::load(folder.name() + "/vocab.json"));
  folder.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nh\nhe\n##l\n##o\nw\n.\n,\n##e\n##h\n");
  check_explanations(*Tokenizer::load(folder.name() + "/vocab.txt"));
  Json unigram = byte_level_json({});
  unigram["model"] = Json::parse(R"({"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [
      ["<unk>", 0], ["h", -3], ["he", -3.5], ["l", -2], ["ll", -3.9], ["hell", -9], ["o", -2.5], [" ", -4], ["w", -3]]})");
  unigram["pre_tokenizer"] = nullptr;
  const auto viterbi = load_json(unigram);
  check_explanations(*viterbi);
  CHECK(viterbi->explain("hello").measure == "log probability");
  CHECK(viterbi->explain("hello").stretches.at(0).pieces.at(0).steps.size() == viterbi->encode("hello").size());
}

TEST_CASE("explained ids are the encoded ids: published vocabularies") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/tokenizers");
  const auto folder = *shared / "tokenizers";
  for (const char* file : {"gpt2/vocab.bpe", "llama2/tokenizer.json", "llama2_spm/tokenizer.model",
                           "ggml-vocab/ggml-vocab-llama-spm.gguf", "ggml-vocab/ggml-vocab-bert-bge.gguf"})
    check_explanations(*Tokenizer::load((folder / file).string()), 40);
  check_explanations(*Tokenizer::load((folder / "qwen1_tiktoken/qwen.tiktoken").string(), "qwen"), 40);
}
