// The forms of vocabularies besides tokenizer.json and GGUF: tekken, tiktoken's ranks, two files, a list of words; and
// what a folder adds to them.
#include <filesystem>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "tests/text/tokenizer/vocabulary_forms.h"
#include "text/tokenizer/explanation.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Ids = std::vector<int32_t>;

namespace {

constexpr EncodeOptions kSpecial = {.add_special_tokens = false, .parse_special = EncodeOptions::ParseSpecial::yes};

std::string error_with(const std::string& path, const std::string& pattern) {
  try {
    Tokenizer::load(path, pattern);
  } catch (const Error& error) {
    return std::string(error.what()) + " | " + error.hint();
  }
  return {};
}

// Tokens enough for the number of ranks that a published vocabulary has: the small ones, then pairs of high bytes.
std::vector<std::string> tokens_up_to(size_t count) {
  auto tokens = byte_tokens();
  for (int i = 0; tokens.size() < count; ++i)
    tokens.push_back(
        {'\xFE', static_cast<char>(i & 0xFF), static_cast<char>(i >> 8 & 0xFF), static_cast<char>(i >> 16), '\xFE'});
  return tokens;
}

}  // namespace

TEST_CASE("tekken: special tokens first, then the ranks") {
  const Folder folder;
  folder.write("tekken.json", tekken_json(byte_tokens(), 5, {"<unk>", "<s>", "</s>", "[INST]"}, "v11"));
  const auto tokenizer = folder.load();
  CHECK(tokenizer->kind() == "tekken, v11");
  CHECK(tokenizer->vocab_size() == 262 + 5);
  CHECK(tokenizer->encode("hello w") == Ids{1, 260 + 5, 256 + 5});
  CHECK(tokenizer->encode("lll", kBare) == Ids{258 + 5, 'l' + 5});
  CHECK(tokenizer->token_text(4) == "<SPECIAL_4>");  // those that the file does not name
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  CHECK(tokenizer->is_special(3));
  // Special tokens are read only when asked for, as in mistral-common, and shown when decoded.
  CHECK(tokenizer->encode("[INST]", kSpecial) == Ids{3});
  CHECK(tokenizer->encode("[INST]", kBare) == Ids{'[' + 5, 'I' + 5, 'N' + 5, 'S' + 5, 'T' + 5, ']' + 5});
  CHECK(tokenizer->decode(Ids{1, 3, 260 + 5, 2}) == "<s>[INST]hello</s>");
  // A character that a special token cuts in two is broken twice.
  CHECK(tokenizer->decode(Ids{0xC3 + 5, 3, 0xA9 + 5}) == "\ufffd[INST]\ufffd");
  CHECK(tokenizer->token_bytes(0xC3 + 5) == "\xC3");
}

TEST_CASE("tekken: more ranks than the vocabulary takes, and the standard special tokens") {
  const Folder folder;
  Json json = tekken_json(byte_tokens(), 20, nullptr, "v3");
  json["config"]["default_vocab_size"] = 259 + 20;
  folder.write("tekken.json", json);
  const auto tokenizer = folder.load();
  CHECK(tokenizer->vocab_size() == 279);
  CHECK(tokenizer->encode("hello", kBare) == Ids{257 + 20, 258 + 20, 'o' + 20});  // "hell" and "hello" are beyond
  CHECK(tokenizer->token_id("[TOOL_CONTENT]") == 19);
  CHECK(tokenizer->token_id("[/INST]") == 4);
}

TEST_CASE("tekken: what is wrong with a file is named") {
  const auto error_of = [](const auto& change) {
    const Folder folder;
    Json json = tekken_json(byte_tokens(), 3, {"<unk>", "<s>", "</s>"});
    change(json);
    const std::string path = folder.write("tekken.json", json);
    const std::string error = load_error(path);
    CHECK_THAT(error, ContainsSubstring(path));
    return error;
  };
  CHECK_THAT(error_of([](Json& j) { j["vocab"][7]["token_bytes"] = "###"; }), ContainsSubstring("vocab[7]"));
  CHECK_THAT(error_of([](Json& j) { j["vocab"][7]["rank"] = 8; }), ContainsSubstring("vocab[7]"));
  CHECK_THAT(error_of([](Json& j) { j["vocab"][261]["token_bytes"] = "aGU="; }),
             ContainsSubstring("those of rank 257"));
  CHECK_THAT(error_of([](Json& j) { j["vocab"][7]["token_bytes"] = "aGVo"; }), ContainsSubstring("byte 0x07"));
  CHECK_THAT(error_of([](Json& j) { j["config"]["pattern"] = "("; }), ContainsSubstring("regex"));
  CHECK_THAT(error_of([](Json& j) { j["config"]["default_vocab_size"] = 1000; }), ContainsSubstring("asks for 997"));
  CHECK_THAT(error_of([](Json& j) { j["config"]["default_vocab_size"] = -1; }), ContainsSubstring("out of range"));
  CHECK_THAT(error_of([](Json& j) { j["config"]["default_num_special_tokens"] = 2; }), ContainsSubstring("3 tokens"));
  CHECK_THAT(error_of([](Json& j) {
               j["config"]["version"] = "seven";
               j.erase("special_tokens");
             }),
             ContainsSubstring("version"));
  CHECK_THAT(error_of([](Json& j) {
               j["config"]["version"] = "v11";
               j.erase("special_tokens");
             }),
             ContainsSubstring("special_tokens is missing"));
  CHECK_THAT(error_of([](Json& j) { j["special_tokens"][1]["rank"] = 0; }), ContainsSubstring("given twice"));
  CHECK_THAT(error_of([](Json& j) { j.erase("config"); }), ContainsSubstring("'config' is missing"));
  const Folder folder;
  CHECK_THAT(load_error(folder.write("tekken.json", "{\"config\": ")), ContainsSubstring("parse error"));
}

TEST_CASE("tiktoken's ranks by the name of a pattern") {
  const Folder folder;
  const std::string path = folder.write("some.tiktoken", tiktoken_ranks(byte_tokens()));
  const auto gpt2 = Tokenizer::load(path, "gpt2");
  CHECK(gpt2->encode("hello w") == Ids{260, 256});
  CHECK(gpt2->encode("hell1llo") == Ids{259, '1', 258, 'o'});
  CHECK(gpt2->decode(Ids{260, 256}) == "hello w");
  CHECK(gpt2->warnings().size() == 1);  // not GPT-2's number of ranks: its special token is not there
  CHECK(Tokenizer::load(path, "qwen")->encode("e\u0301") == Ids{261});  // in normal form C
  CHECK(gpt2->encode("e\u0301") == Ids{'e', 0xCC, 0x81});
  // Digits: three of Llama 3's stand together, none of Qwen's, all of GPT-2's; here nothing merges across pieces.
  CHECK(Tokenizer::load(path, "llama3")->explain("12345").stretches.at(0).pieces.size() == 2);
  CHECK(Tokenizer::load(path, "qwen")->explain("12345").stretches.at(0).pieces.size() == 5);
  CHECK(gpt2->explain("12345").stretches.at(0).pieces.size() == 1);
}

TEST_CASE("tiktoken's ranks by a regular expression") {
  const Folder folder;
  const std::string path = folder.write("some.tiktoken", tiktoken_ranks(byte_tokens()));
  CHECK(Tokenizer::load(path, "he|.")->encode("hello") == Ids{257, 'l', 'l', 'o'});
  CHECK(Tokenizer::load(path, "z+")->encode("hello w") == Ids{260, 256});  // what no match covers is a piece too
  CHECK_THAT(error_with(path, "lama3"),
             ContainsSubstring("no pattern has the name 'lama3' | known: gpt2, llama3, qwen"));
  CHECK_THAT(error_with(path, "(a"), ContainsSubstring("regex: "));
}

TEST_CASE("tiktoken merges the lowest rank of the joined bytes, the leftmost first, and takes whole pieces") {
  auto tokens = byte_tokens();
  tokens.resize(256);
  for (const char* token : {"ab", "bc", "aa", "abcd"}) tokens.emplace_back(token);
  const Folder folder;
  const auto tokenizer = Tokenizer::load(folder.write("x.tiktoken", tiktoken_ranks(tokens)), "gpt2");
  CHECK(tokenizer->encode("abc") == Ids{256, 'c'});
  CHECK(tokenizer->encode("bcb") == Ids{257, 'b'});
  CHECK(tokenizer->encode("aaa") == Ids{258, 'a'});
  CHECK(tokenizer->encode("abcd") == Ids{259});  // no merge leads there
  CHECK(tokenizer->encode("abcdx") == Ids{256, 'c', 'd', 'x'});
  CHECK(tokenizer->encode(std::string(100'000, 'a')) == Ids(50'000, 258));  // one piece: not quadratic
}

TEST_CASE("tiktoken's ranks without a pattern are refused, never guessed at") {
  const Folder folder;
  const std::string ranks = tiktoken_ranks(byte_tokens());
  const std::string path = folder.write("tokenizer.model", ranks);
  CHECK_THAT(error_with(path, ""), ContainsSubstring("give --pattern gpt2, llama3, qwen or a regular expression"));
  folder.write("tokenizer_config.json", Json{{"tokenizer_class", "SomeTokenizer"}});
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("tokenizer_class 'SomeTokenizer' tells none"));
  CHECK(folder.load("gpt2")->encode("hello") == Ids{260});
  folder.write("broken.tiktoken", "aGVsbG8= 0\nnonsense\n");
  CHECK_THAT(error_with(folder.name() + "/broken.tiktoken", "gpt2"), ContainsSubstring("line 2 is 'nonsense'"));
  folder.write("twice.tiktoken", ranks + "aGVsbG8= 300\n");
  CHECK_THAT(error_with(folder.name() + "/twice.tiktoken", "gpt2"), ContainsSubstring("has rank 260 already"));
  folder.write("few.tiktoken", ranks.substr(0, ranks.find("AQ==")));
  CHECK_THAT(error_with(folder.name() + "/few.tiktoken", "gpt2"), ContainsSubstring("byte 0x01 is no token"));
  for (const char* rank : {"-1", "99999999", "1x", ""}) {
    folder.write("odd.tiktoken", ranks + "aGV5 " + rank + "\n");
    CHECK(error_with(folder.name() + "/odd.tiktoken", "gpt2") != "");
  }
}

TEST_CASE("Qwen 1: its class chooses pattern and special tokens") {
  const Folder folder;
  folder.write("qwen.tiktoken", tiktoken_ranks(tokens_up_to(151643)));
  folder.write("tokenizer_config.json", Json{{"tokenizer_class", "QWenTokenizer"}});
  const auto tokenizer = folder.load();
  CHECK(tokenizer->token_id("<|endoftext|>") == 151643);
  CHECK(tokenizer->token_id("<|im_end|>") == 151645);
  CHECK(tokenizer->token_id("<|extra_0|>") == 151646);
  CHECK(tokenizer->token_id("<|extra_204|>") == 151850);
  CHECK(tokenizer->vocab_size() == 151851);
  CHECK(tokenizer->eos() == 151643);
  CHECK(tokenizer->encode("hello<|im_end|>") == Ids{260, 151645});  // read, as QWenTokenizer does
  CHECK(tokenizer->warnings().empty());
}

TEST_CASE("Llama 3: its first special token in tokenizer_config.json chooses pattern and special tokens") {
  const Folder folder;
  folder.write("original/tokenizer.model", tiktoken_ranks(tokens_up_to(128000)));
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("give --pattern"));
  const Json begin = {{"content", "<|begin_of_text|>"}, {"special", true}};
  const Json renamed = {{"content", "<|my_token|>"}, {"special", true}};
  folder.write("tokenizer_config.json", Json{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                             {"added_tokens_decoder", {{"128000", begin}, {"128002", renamed}}},
                                             {"eos_token", "<|eot_id|>"}});
  const auto tokenizer = folder.load();
  CHECK(tokenizer->encode("hello") == Ids{128000, 260});
  CHECK(tokenizer->token_id("<|eot_id|>") == 128009);
  CHECK(tokenizer->token_id("<|reserved_special_token_245|>") == 128255);
  CHECK(tokenizer->token_text(128002) == "<|my_token|>");
  CHECK(tokenizer->vocab_size() == 128256);
  CHECK(tokenizer->eos() == 128009);
  CHECK(tokenizer->encode("<|eot_id|>", kBare).size() == 10);  // not read, as in Meta's program
  CHECK(tokenizer->encode("<|eot_id|>", kSpecial) == Ids{128009});
}

TEST_CASE("vocab.json and merges.txt, from either file and by their older names") {
  const Folder folder;
  write_two_files(folder.path());
  folder.write("tokenizer_config.json", Json{{"tokenizer_class", "GPT2Tokenizer"}});
  for (const char* name : {"", "/vocab.json", "/merges.txt"}) {
    const auto tokenizer = Tokenizer::load(folder.name() + name);
    CHECK(tokenizer->encode("hello w<|endoftext|>") == Ids{260, 256, 262});
    CHECK(tokenizer->decode(Ids{260, 256, 262}) == "hello w<|endoftext|>");
    CHECK(tokenizer->eos() == 262);
    CHECK(tokenizer->is_special(262));
    CHECK(tokenizer->warnings().empty());
  }
  const Folder older;
  write_two_files(older.path(), "encoder.json", "vocab.bpe");
  CHECK(Tokenizer::load(older.name() + "/vocab.bpe")->encode("hello w") == Ids{260, 256});
  CHECK(older.load()->kind() == "encoder.json and vocab.bpe");
  CHECK(older.load("\\S|\\s")->encode("hello") == Ids{'h', 'e', 'l', 'l', 'o'});
}

TEST_CASE("vocab.json: the tokenizer class decides how text is cut and what goes round it") {
  const Folder folder;
  write_two_files(folder.path());
  CHECK_THAT(folder.load()->warnings().at(0), ContainsSubstring("GPT-2's way"));
  folder.write("tokenizer_config.json", Json{{"tokenizer_class", "SomeTokenizer"}});
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("'SomeTokenizer' cuts text is not known"));
  CHECK(folder.load("gpt2")->encode("hello") == Ids{260});
  folder.write("tokenizer_config.json", Json{{"tokenizer_class", "Qwen2TokenizerFast"}});
  CHECK(folder.load()->encode("e\u0301") == Ids{261});
  folder.write("tokenizer_config.json", Json{{"tokenizer_class", "GPT2Tokenizer"}, {"add_prefix_space", true}});
  CHECK(folder.load()->encode("w") == Ids{256});
  folder.write("added_tokens.json", Json{{"<s>", 263}, {"</s>", 264}, {"<mask>", 265}, {"nice", 266}});
  folder.write("tokenizer_config.json", Json{{"tokenizer_class", "RobertaTokenizer"}});
  folder.write("special_tokens_map.json",
               Json{{"bos_token", "<s>"},
                    {"eos_token", {{"content", "</s>"}}},
                    {"mask_token", {{"content", "<mask>"}, {"lstrip", true}, {"special", true}}}});
  const auto roberta = folder.load();  // added_tokens.json lists the mask: its flags, none, count, as in transformers
  CHECK(roberta->encode("hello nice  <mask>!") == Ids{263, 260, ' ', 266, ' ', ' ', 265, '!', 264});
  CHECK(roberta->is_special(265));
  CHECK(!roberta->is_special(266));
  CHECK(roberta->bos() == 263);
}

TEST_CASE("vocab.json: what is wrong is named") {
  const Folder folder;
  write_two_files(folder.path());
  std::filesystem::remove(folder.path() / "merges.txt");
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("merges.txt is not beside it"));
  folder.write("merges.txt", "h e l\n");
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("rule 1 is 'h e l'"));
  folder.write("merges.txt", "h x\n");
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("the vocabulary has no token 'hx'"));
  folder.write("vocab.json", "[]");
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("expected an object"));
  folder.write("vocab.json", Json{{"a", 1e9}});
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("expected an integer"));
  folder.write("vocab.json", Json{{"a", 1 << 30}});
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("the id of token 'a'"));
}

TEST_CASE("vocab.txt: WordPiece, in lower case unless the folder says otherwise") {
  const Folder folder;
  folder.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##able\nun\u00e4\n,\nUn\n");
  const auto lower = folder.load();
  CHECK(lower->kind() == "vocab.txt, WordPiece");
  CHECK(lower->encode("Unable, x [MASK]") == Ids{2, 5, 6, 8, 1, 4, 3});
  CHECK(lower->decode(Ids{2, 5, 6, 8}) == "[CLS] unable,");
  CHECK(lower->warnings().size() == 1);  // there is a word in capitals
  folder.write("tokenizer_config.json", Json{{"tokenizer_class", "BertTokenizer"}, {"do_lower_case", false}});
  CHECK(folder.load()->encode("Unable un\u00e4", kBare) == Ids{9, 6, 7});
  CHECK(folder.load()->warnings().empty());
  folder.write("vocab.txt", "[PAD]\nun\n");
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("unk_token '[UNK]' is not in the vocabulary"));
}

TEST_CASE("of several forms in a folder tokenizer.json counts, then the documented order") {
  const Folder folder;
  folder.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n");
  CHECK(folder.load()->kind() == "vocab.txt, WordPiece");
  write_two_files(folder.path());
  CHECK(folder.load()->kind() == "vocab.json and merges.txt");
  folder.write("qwen.tiktoken", tiktoken_ranks(byte_tokens()));
  CHECK(folder.load("gpt2")->kind() == "tiktoken");
  folder.write("tekken.json", tekken_json(byte_tokens(), 3, {"<unk>", "<s>", "</s>"}));
  CHECK(folder.load()->kind() == "tekken, v7");
  folder.write("tokenizer.json", byte_level_json({}));
  CHECK(folder.load()->kind() == "tokenizer.json, BPE");
  CHECK_THAT(error_with(folder.name(), "gpt2"), ContainsSubstring("this file says itself how text is cut"));
  const Folder empty;
  CHECK_THAT(error_with(empty.name(), ""), ContainsSubstring("expected one of tokenizer.json, tekken.json"));
  CHECK_THAT(error_with(empty.write("tokens.dat", "\1\2\3"), ""), ContainsSubstring("no tokenizer file"));
}

TEST_CASE("tokens that a folder adds to a sentencepiece model") {
  const auto shared = shared_dir();
  if (!shared || !std::filesystem::exists(*shared / "models/stories260K/hf/tokenizer.model"))
    return skip("needs ../shared/models/stories260K");
  const Folder folder;
  folder.write("tokenizer.model", read_file(*shared / "models/stories260K/hf/tokenizer.model"));
  const auto plain = folder.load();
  const auto size = static_cast<int32_t>(plain->vocab_size());
  folder.write("tokenizer_config.json", Json{{"add_bos_token", false},
                                             {"added_tokens_decoder",
                                              {{std::to_string(size), {{"content", "<|user|>"}, {"special", true}}},
                                               {std::to_string(size + 1), {{"content", "nice"}, {"rstrip", true}}}}}});
  const auto tokenizer = folder.load();
  CHECK(tokenizer->vocab_size() == size + 2);
  CHECK(tokenizer->token_id("<|user|>") == size);
  CHECK(tokenizer->is_special(size));
  Ids expected = plain->encode("a", kBare);
  expected.push_back(size + 1);
  for (const int32_t id : plain->encode("b", kBare)) expected.push_back(id);
  CHECK(tokenizer->encode("anice  b") == expected);  // an added token that is not special is always read
  CHECK(tokenizer->encode("<|user|>", kSpecial) == Ids{size});
  CHECK(tokenizer->decode(Ids{size, size + 1}) == "<|user|>nice");
  folder.write("tokenizer_config.json", Json{{"added_tokens_decoder", {{"x1", {{"content", "a"}}}}}});
  CHECK_THAT(error_with(folder.name(), ""), ContainsSubstring("expected a number for a name"));
}

TEST_CASE("published rank files equal the tokenizer.json of the same vocabulary") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/tokenizers");
  const auto folder = *shared / "tokenizers";
  const auto llama = Tokenizer::load((folder / "llama3_tiktoken/tokenizer.model").string(), "llama3");
  const auto same = Tokenizer::load((folder / "llama3_1/tokenizer.json").string());
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    const std::string text = random_text(random, 60);
    CHECK(llama->encode(text) == same->encode(text));
  }
  for (const char* name : {"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|eot_id|>"})
    CHECK(llama->token_id(name) == same->token_id(name));
  CHECK(llama->vocab_size() == same->vocab_size());
}
