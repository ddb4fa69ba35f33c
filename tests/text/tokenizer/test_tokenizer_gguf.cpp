// Vocabularies in GGUF files: the byte-level and the scored kind, their keys, and files that are broken.
#include <fmt/format.h>

#include <cmath>
#include <random>

#include "tests/catch.h"
#include "tests/support.h"
#include "tests/text/tokenizer/small_vocabularies.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/pre_tokenizer.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Ids = std::vector<int32_t>;
using Metadata = std::vector<std::pair<std::string, GgufTestValue>>;

namespace {

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kByte = 6;

// The 256 bytes, "he" 256, "llo" 257, <|im_end|> 258 (control), <tool> 259 (user-defined).
Metadata byte_level() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(bytes_to_alphabet(std::string(1, static_cast<char>(byte))));
  std::vector<int32_t> types(258, kNormal);
  for (const char* token : {"he", "llo", "<|im_end|>", "<tool>"}) tokens.emplace_back(token);
  types.push_back(kControl);
  types.push_back(kUserDefined);
  return {{"tokenizer.ggml.model", std::string("gpt2")},
          {"tokenizer.ggml.pre", std::string("smollm")},
          {"tokenizer.ggml.tokens", tokens},
          {"tokenizer.ggml.token_type", types},
          {"tokenizer.ggml.merges", std::vector<std::string>{"h e", "l lo", "ll o"}},
          {"tokenizer.ggml.bos_token_id", uint32_t{258}},
          {"tokenizer.ggml.eos_token_id", uint32_t{258}},
          {"tokenizer.chat_template", std::string("T")},
          {"tokenizer.chat_template.tool_use", std::string("U")}};
}

// <unk> 0, <s> 1, </s> 2, bytes from 3, then "a" 259, "b" 260, U+2581 261, "ab" 262, U+2581 "ab" 263.
Metadata scored() {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, kControl, kControl};
  std::vector<float> scores = {0, 0, 0};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    types.push_back(kByte);
    scores.push_back(0);
  }
  const std::vector<std::pair<const char*, float>> pieces = {{"a", -5},  {"b", -6},   {"▁", -4},
                                                             {"ab", -2}, {"▁ab", -3}, {"é▁", -1}};
  for (const auto& [text, score] : pieces) {
    tokens.emplace_back(text);
    types.push_back(kNormal);
    scores.push_back(score);
  }
  return {{"tokenizer.ggml.model", std::string("llama")},
          {"tokenizer.ggml.tokens", tokens},
          {"tokenizer.ggml.token_type", types},
          {"tokenizer.ggml.scores", scores}};
}

std::filesystem::path write_gguf(const std::filesystem::path& folder, const Metadata& metadata) {
  write_file(folder / "v.gguf", gguf_bytes(metadata));
  return folder / "v.gguf";
}

std::shared_ptr<const Tokenizer> load(const Metadata& metadata) {
  TemporaryDirectory folder;
  return Tokenizer::load(write_gguf(folder.path(), metadata).string());
}

Metadata changed(Metadata metadata, const std::string& key, std::optional<GgufTestValue> value) {
  std::erase_if(metadata, [&](const auto& entry) { return entry.first == key; });
  if (value) metadata.emplace_back(key, *value);
  return metadata;
}

std::string error_of(const Metadata& metadata) {
  TemporaryDirectory folder;
  return load_error(write_gguf(folder.path(), metadata));
}

}  // namespace

TEST_CASE("GGUF: byte-level BPE") {
  const auto tokenizer = load(byte_level());
  CHECK(tokenizer->kind() == "GGUF, gpt2");
  CHECK(tokenizer->warnings().empty());
  CHECK(tokenizer->vocab_size() == 260);
  CHECK(tokenizer->bos() == 258);
  CHECK(tokenizer->end_of_turn_tokens() == Ids{258});
  CHECK(tokenizer->chat_template() == "T");
  CHECK(tokenizer->chat_templates().at("tool_use") == "U");
  CHECK(tokenizer->encode("hehe 12") == Ids{256, 256, ' ', '1', '2'});  // no BOS unless the file says so
  // Control tokens are read from text only when asked, user-defined ones always.
  CHECK(tokenizer->encode("<|im_end|>").size() == 10);
  CHECK(tokenizer->encode("<|im_end|>", {true, EncodeOptions::ParseSpecial::yes}) == Ids{258});
  CHECK(tokenizer->encode("<tool>", {true, EncodeOptions::ParseSpecial::no}) == Ids{259});
  CHECK(tokenizer->decode(Ids{256, 258, 0xC3, 0xA9}) == "he<|im_end|>\u00e9");
  CHECK(tokenizer->is_special(258));
  CHECK(!tokenizer->is_special(259));
  CHECK(load(changed(byte_level(), "tokenizer.ggml.add_bos_token", true))->encode("x") == Ids{258, 'x'});
  CHECK(load(changed(byte_level(), "tokenizer.ggml.add_eos_token", true))->encode("x") == Ids{'x', 258});
  CHECK(load(changed(byte_level(), "tokenizer.ggml.pre", std::string("llama-bpe")))->encode("x") == Ids{258, 'x'});
}

TEST_CASE("GGUF: an absent or unknown pre-tokeniser warns") {
  const auto absent = load(changed(byte_level(), "tokenizer.ggml.pre", std::nullopt));
  REQUIRE(absent->warnings().size() == 1);
  CHECK_THAT(absent->warnings()[0], ContainsSubstring("tokenizer.ggml.pre is missing"));
  const auto unknown = load(changed(byte_level(), "tokenizer.ggml.pre", std::string("unheard")));
  REQUIRE(unknown->warnings().size() == 1);
  CHECK_THAT(unknown->warnings()[0], ContainsSubstring("'unheard' is not known"));
  CHECK(unknown->encode("he, 1") == Ids{256, ',', ' ', '1'});
  CHECK_THAT(load(changed(byte_level(), "tokenizer.ggml.eos_token_id", uint32_t{9999}))->warnings().at(0),
             ContainsSubstring("9999, outside the vocabulary"));
}

TEST_CASE("GGUF: the patterns of every pre-tokeniser compile and lose nothing") {
  const std::string text = "It's 12345\n\n  deep\u0301 \u65e5\u672c\u8a9e, \u0440\u0443\u0441!!  \t<sentinel:3>";
  for (const char* name : {"default",        "llama-bpe",
                           "dbrx",           "jais-2",
                           "gpt-2",          "smollm",
                           "qwen2",          "ufakzeka",
                           "laguna",         "minicpm5",
                           "qwen35",         "tekken",
                           "gpt-4o",         "granite-embed-multi-97m",
                           "tiny_aya",       "kimi-k2",
                           "superbpe",       "bailingmoe",
                           "seed-coder",     "exaone-moe",
                           "falcon",         "deepseek-llm",
                           "deepseek-coder", "deepseek-v3",
                           "spark2_5",       "afmoe",
                           "youtu",          "bloom",
                           "viking",         "gemma4",
                           "chameleon"}) {
    const GgufPreTokenizer* entry = find_gguf_pre_tokenizer(name);
    REQUIRE(entry);
    std::vector<std::unique_ptr<PreTokenizer>> stages;
    for (const char* pattern : entry->patterns) stages.push_back(make_split(Regex(pattern), SplitBehavior::isolated));
    std::string joined;
    make_sequence(std::move(stages))->split({text, true}, [&](Piece piece) { joined += piece.text; });
    CHECK(joined == text);
  }
  CHECK(!find_gguf_pre_tokenizer("unheard"));
}

TEST_CASE("GGUF: BPE by score") {
  const auto tokenizer = load(scored());
  CHECK(tokenizer->kind() == "GGUF, llama");
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  CHECK(tokenizer->encode("ab") == Ids{1, 263});
  const EncodeOptions bare = {.add_special_tokens = false};
  CHECK(tokenizer->encode("aab", bare) == Ids{261, 259, 262});
  CHECK(tokenizer->encode("z", bare) == Ids{261, 'z' + 3});
  // A character without a token can become part of one: U+00E9 itself is spelled in bytes.
  CHECK(tokenizer->encode("\u00e9 a\u00e9", bare) == Ids{261, 264, 259, 0xC3 + 3, 0xA9 + 3});
  CHECK(tokenizer->encode("", bare).empty());
  CHECK(tokenizer->decode(Ids{263, 259}) == "aba");
  CHECK(tokenizer->decode(Ids{1, 263}) == "<s> ab");
  CHECK(tokenizer->decode(Ids{0xC3 + 3, 0xA9 + 3, 0xC3 + 3, 259}) ==
        "\u00e9\ufffd"
        "a");
  CHECK(tokenizer->token_bytes(263) == " ab");
  const auto plain = load(changed(scored(), "tokenizer.ggml.add_space_prefix", false));
  CHECK(plain->encode("ab", bare) == Ids{262});
  CHECK(plain->decode(Ids{263}) == " ab");
}

TEST_CASE("GGUF: long text by score is cut exactly") {
  const auto tokenizer = load(scored());
  const EncodeOptions bare = {.add_special_tokens = false};
  std::mt19937 random(5);
  std::string text;
  Ids expected;
  for (int i = 0; i < 300; ++i) {
    const std::string word = random() % 2 ? "ab" : "aab";
    text += (i ? " " : "") + word;
    for (int32_t id : tokenizer->encode(word, bare)) expected.push_back(id);
  }
  CHECK(tokenizer->encode(text, bare) == expected);
  CHECK(tokenizer->decode(expected) == text);
}

TEST_CASE("GGUF: pre-tokenisers cut as their models do") {
  auto cut = [](const char* name, std::string_view text) {
    std::vector<std::unique_ptr<PreTokenizer>> stages;
    for (const char* pattern : find_gguf_pre_tokenizer(name)->patterns)
      stages.push_back(make_split(Regex(pattern), SplitBehavior::isolated));
    std::string joined;
    make_sequence(std::move(stages))->split({text, true}, [&](Piece piece) { joined.append(piece.text).append("|"); });
    return joined;
  };
  CHECK(cut("kimi-k2", "ab\u4e00\u4e8ccd 1234") == "ab|\u4e00\u4e8c|cd| |123|4|");
  CHECK(cut("afmoe", "1234567 x") == "1|234|567| x|");
  CHECK(cut("superbpe", "1234567") == "1|234|567|");
  CHECK(cut("gpt-4o", "HelloWorld it's") == "Hello|World| it's|");
  CHECK(cut("tiny_aya", "1234 x") == "1|234| x|");
}

TEST_CASE("GGUF: WordPiece in the format's spelling") {
  const std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁un", "able", "▁,", "▁\u4e00", "▁a"};
  const Metadata metadata = {{"tokenizer.ggml.model", std::string("bert")},
                             {"tokenizer.ggml.tokens", tokens},
                             {"tokenizer.ggml.token_type", std::vector<int32_t>{3, 3, 3, 3, 1, 1, 1, 1, 1}},
                             {"tokenizer.ggml.unknown_token_id", uint32_t{1}},
                             {"tokenizer.ggml.cls_token_id", uint32_t{2}},
                             {"tokenizer.ggml.seperator_token_id", uint32_t{3}}};
  const auto tokenizer = load(metadata);
  CHECK(tokenizer->encode("Unable, \u00c4\u4e00a x") == Ids{2, 4, 5, 6, 8, 7, 8, 1, 3});
  CHECK(tokenizer->encode("una\tun\x01", {.add_special_tokens = false}) == Ids{1, 4});
  CHECK(tokenizer->decode(Ids{2, 4, 5, 6}) == "[CLS] unable ,");
  CHECK(load(changed(metadata, "tokenizer.ggml.normalizer.lowercase", false))
            ->encode("Un un", {.add_special_tokens = false}) == Ids{1, 4});
  CHECK_THAT(error_of(changed(metadata, "tokenizer.ggml.unknown_token_id", std::nullopt)),
             ContainsSubstring("unknown_token_id is missing"));
}

TEST_CASE("GGUF: unigram with its options") {
  const std::vector<std::string> tokens = {"<pad>", "</s>", "<unk>", "▁a", "b", "▁", "a", "<tool>"};
  const Metadata metadata = {{"tokenizer.ggml.model", std::string("t5")},
                             {"tokenizer.ggml.tokens", tokens},
                             {"tokenizer.ggml.token_type", std::vector<int32_t>{3, 3, 2, 1, 1, 1, 1, 4}},
                             {"tokenizer.ggml.scores", std::vector<float>{0, 0, 0, -1, -2, -3, -4, -9}},
                             {"tokenizer.ggml.add_space_prefix", true},
                             {"tokenizer.ggml.remove_extra_whitespaces", true}};
  const auto tokenizer = load(metadata);
  CHECK(tokenizer->encode("  ab   a ") == Ids{3, 4, 3, 1});
  CHECK(tokenizer->encode("a<tool>b", {.add_special_tokens = false}) == Ids{3, 7, 5, 4});
  CHECK(tokenizer->encode("axy</s>", {.add_special_tokens = false}) == Ids{3, 2});  // control tokens are not found
  CHECK(tokenizer->decode(Ids{3, 4, 3, 1}) == "ab a</s>");
  auto with_score = [&](float score) {
    return error_of(changed(metadata, "tokenizer.ggml.scores", std::vector<float>{0, 0, 0, score, -2, -3, -4, -9}));
  };
  CHECK_THAT(with_score(NAN), ContainsSubstring("the score of token 3"));
  CHECK_THAT(with_score(INFINITY), ContainsSubstring("the score of token 3"));
  CHECK_THAT(error_of(changed(metadata, "tokenizer.ggml.scores", std::vector<float>{1})),
             ContainsSubstring("scores has 1"));
  CHECK_THAT(error_of(changed(metadata, "tokenizer.ggml.precompiled_charsmap", std::vector<int32_t>{1, 2, 3})),
             ContainsSubstring("precompiled_charsmap"));
  CHECK_THAT(error_of(changed(metadata, "tokenizer.ggml.token_type", std::vector<int32_t>(8, 3))),
             ContainsSubstring("no token is a normal one"));
}

TEST_CASE("GGUF: the stream law") {
  std::mt19937 random(17);
  for (const auto& tokenizer : {load(byte_level()), load(scored())})
    for (int round = 0; round < 100; ++round) {
      Ids ids;
      for (int i = 0; i < 20; ++i) {
        ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(tokenizer->vocab_size())));
        CHECK(stream(*tokenizer, ids) == tokenizer->decode(ids));
      }
    }
}

TEST_CASE("GGUF: broken vocabularies are errors that name the key") {
  CHECK_THAT(error_of({}), ContainsSubstring("tokenizer.ggml.model is missing"));
  CHECK_THAT(error_of(changed(byte_level(), "tokenizer.ggml.model", std::string("rwkv"))),
             ContainsSubstring("tokenizer.ggml.model 'rwkv' is not supported"));
  CHECK_THAT(error_of(changed(byte_level(), "tokenizer.ggml.tokens", std::nullopt)),
             ContainsSubstring("tokenizer.ggml.tokens is missing"));
  CHECK_THAT(error_of(changed(byte_level(), "tokenizer.ggml.tokens", std::vector<std::string>{"a"})),
             ContainsSubstring("tokenizer.ggml.token_type has 260"));
  CHECK_THAT(error_of(changed(byte_level(), "tokenizer.ggml.tokens", uint32_t{3})), ContainsSubstring("array"));
  CHECK_THAT(error_of(changed(byte_level(), "tokenizer.ggml.merges", std::nullopt)),
             ContainsSubstring("tokenizer.ggml.merges is missing"));
  CHECK_THAT(error_of(changed(byte_level(), "tokenizer.ggml.merges", std::vector<std::string>{"nospace"})),
             ContainsSubstring("rule 1"));
  CHECK_THAT(error_of(changed(scored(), "tokenizer.ggml.scores", std::vector<float>{1})),
             ContainsSubstring("1 scores for 265 tokens"));
  CHECK(error_of(changed(scored(), "tokenizer.ggml.tokens", std::vector<std::string>(265, "\xff"))) != "");
  TemporaryDirectory folder;
  const std::string whole = gguf_bytes(byte_level());
  for (size_t length = 0; length < whole.size(); length += 1 + whole.size() / 100) {
    write_file(folder.path() / "cut.gguf", std::string_view(whole).substr(0, length));
    CHECK(load_error(folder.path() / "cut.gguf") != "");
  }
}
