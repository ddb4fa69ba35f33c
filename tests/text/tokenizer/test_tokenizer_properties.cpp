// Laws that hold for every vocabulary: text comes back from its ids; bytes that are not UTF-8 follow one rule each way;
// a stream shows what the whole shows.
#include <fmt/format.h>

#include <filesystem>
#include <sstream>

#include "tests/catch.h"
#include "tests/support.h"
#include "tests/text/tokenizer/vocabulary_forms.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/explanation.h"
#include "text/unicode/unicode.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Ids = std::vector<int32_t>;
using Tokenizers = std::vector<std::shared_ptr<const Tokenizer>>;

namespace {

// One small vocabulary of bytes in every form there is.
Tokenizers byte_level_vocabularies() {
  const Folder folder;
  Tokenizers list;
  Json json = byte_level_json({{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {"\u0120", "w"}});
  list.push_back(load_json(json));
  json["model"]["ignore_merges"] = true;
  json["normalizer"] = {{"type", "NFKC"}};
  list.push_back(load_json(json));
  folder.write("tekken.json", tekken_json(byte_tokens(), 4, {"<unk>", "<s>", "</s>", "[INST]"}));
  list.push_back(folder.load());
  const std::string ranks = folder.write("x.tiktoken", tiktoken_ranks(byte_tokens()));
  for (const char* pattern : {"gpt2", "llama3", "qwen", "l+|\\S"}) list.push_back(Tokenizer::load(ranks, pattern));
  write_two_files(folder.path());
  list.push_back(Tokenizer::load(folder.name() + "/vocab.json"));
  std::vector<std::string> tokens;
  for (const std::string& token : byte_tokens()) tokens.push_back(bytes_to_alphabet(token));
  for (const char* pre : {"gpt-2", "llama-bpe", "qwen2", "deepseek-llm"})
    list.push_back(Tokenizer::load(folder.write(
        fmt::format("{}.gguf", pre), gguf_bytes({{"tokenizer.ggml.model", std::string("gpt2")},
                                                 {"tokenizer.ggml.pre", std::string(pre)},
                                                 {"tokenizer.ggml.tokens", tokens},
                                                 {"tokenizer.ggml.merges", std::vector<std::string>{"h e", "l l"}}}))));
  return list;
}

// Small vocabularies of the other kinds: byte tokens, words, decoders that look at their neighbours.
Tokenizers other_vocabularies() {
  const Folder folder;
  Tokenizers list;
  Json metaspace = metaspace_json({{"▁", "h"}, {"l", "l"}, {"▁h", "e"}});
  list.push_back(load_json(metaspace));
  metaspace["decoder"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}};
  list.push_back(load_json(metaspace));
  metaspace["decoder"] = {{"type", "CTC"}, {"pad_token", "<unk>"}, {"word_delimiter_token", "▁"}, {"cleanup", true}};
  list.push_back(load_json(metaspace));
  metaspace["decoder"] = {{"type", "BPEDecoder"}, {"suffix", "a"}};
  list.push_back(load_json(metaspace));
  metaspace["decoder"] = nullptr;
  list.push_back(load_json(metaspace));
  folder.write("vocab.txt",
               "[PAD]\n[UNK]\n[CLS]\n[SEP]\nh\nhe\n##l\n##o\n.\n,\n'\n##e\n##h\n##.\n!\ndo\nn't\n#\n?\n'm\n");
  list.push_back(folder.load());
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(fmt::format("<0x{:02X}>", byte));
  for (const char* token : {"▁", "▁h", "a", "b", "ab", "▁▁"}) tokens.emplace_back(token);
  list.push_back(Tokenizer::load(
      folder.write("x.gguf", gguf_bytes({{"tokenizer.ggml.model", std::string("llama")},
                                         {"tokenizer.ggml.tokens", tokens},
                                         {"tokenizer.ggml.scores", std::vector<float>(tokens.size(), 0)}}))));
  return list;
}

Tokenizers published(const std::vector<const char*>& files) {
  Tokenizers list;
  for (const char* file : files) {
    const std::string name = file;
    const char* pattern = name.starts_with("llama3_tik") ? "llama3" : name.starts_with("qwen1") ? "qwen" : "";
    list.push_back(Tokenizer::load((*shared_dir() / "tokenizers" / file).string(), pattern));
  }
  return list;
}

void check_round_trips(const Tokenizer& tokenizer, int rounds) {
  std::mt19937 random(5);
  for (int round = 0; round < rounds; ++round) {
    const std::string text = random_text(random, 80);
    INFO(tokenizer.kind() << ": " << text);
    std::string normalized;
    for (const auto& stretch : tokenizer.explain(text, kBare).stretches)
      normalized += stretch.token < 0 ? stretch.normalized : stretch.text;
    const Ids ids = tokenizer.encode(text, kBare);
    CHECK(tokenizer.decode(ids) == normalized);
    std::string bytes;
    for (const int32_t id : ids) bytes += tokenizer.token_bytes(id);
    CHECK(bytes == normalized);
  }
}

// For random ids, sensible and not: what a stream has shown after `max_new_tokens` of them is the whole of those.
void check_streams(const Tokenizer& tokenizer, int rounds) {
  std::mt19937 random(17);
  const auto size = static_cast<uint32_t>(tokenizer.vocab_size());
  for (int round = 0; round < rounds; ++round) {
    Ids ids = tokenizer.encode(random_text(random, 30));
    for (int i = 0; i < 12; ++i)
      ids.insert(ids.begin() + static_cast<int64_t>(random() % (ids.size() + 1)),
                 static_cast<int32_t>(random() % size));
    for (size_t length = 0; length <= ids.size(); ++length) {
      const Ids prefix(ids.begin(), ids.begin() + static_cast<int64_t>(length));
      INFO(tokenizer.kind() << ", the first " << length << " of round " << round);
      CHECK(stream(tokenizer, prefix) == tokenizer.decode(prefix));
    }
  }
}

struct InvalidBytes {
  std::string bytes, replaced;
};

// Bytes and what Python's bytes.decode("utf-8", errors="replace") makes of them: one U+FFFD for each maximal subpart
// (Unicode 15, section 3.9, table 3-8).
std::vector<InvalidBytes> invalid_bytes() {
  std::vector<InvalidBytes> cases = {{"\x80", "\ufffd"},
                                     {"a\xC3(", "a\ufffd("},
                                     {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "\ufffd\ufffd\ufffd\ufffdA"},
                                     {"\xC0\xAF\xE0\x80\xBF", "\ufffd\ufffd\ufffd\ufffd\ufffd"},
                                     {"\xED\xA0\x80\xED\xBF\xBF", "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd"},
                                     {"\xF4\x91\x92\x93\xFF", "\ufffd\ufffd\ufffd\ufffd\ufffd"},
                                     {"\xF0\x9F\x98\x80\xF0\x9F", "\U0001F600\ufffd"},
                                     {"ok\xE2\x82", "ok\ufffd"}};
  if (const auto shared = shared_dir()) {
    std::istringstream lines(read_file(*shared / "text/stress/invalid_utf8.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      if (line.empty()) continue;
      const Json json = Json::parse(line);
      InvalidBytes invalid{"", json.at("python_replace")};
      const std::string hex = json.at("hex");
      for (size_t i = 0; i < hex.size(); i += 2)
        invalid.bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
      cases.push_back(std::move(invalid));
    }
  }
  return cases;
}

void check_invalid_bytes(const Tokenizer& tokenizer) {
  for (const auto& [bytes, replaced] : invalid_bytes()) {
    INFO(tokenizer.kind() << ": " << replaced);
    Ids ids;
    std::string raw;
    for (const char byte : bytes) {
      const auto id = tokenizer.token_id(bytes_to_alphabet(std::string(1, byte)));
      REQUIRE(id);
      ids.push_back(*id);
      raw += tokenizer.token_bytes(*id);
    }
    CHECK(raw == bytes);
    CHECK(tokenizer.decode(ids) == replaced);
    CHECK(stream(tokenizer, ids) == replaced);
    // The other way, text that is no UTF-8 is refused, by the offset of its first bad byte.
    if (const auto offset = first_invalid_utf8(bytes))
      CHECK_THROWS_WITH(tokenizer.encode(bytes), ContainsSubstring(fmt::format("offset {}", *offset)));
  }
}

}  // namespace

TEST_CASE("byte-level vocabularies give back the normalised text, whatever it is") {
  for (const auto& tokenizer : byte_level_vocabularies()) check_round_trips(*tokenizer, 200);
}

TEST_CASE("published byte-level vocabularies give back the normalised text, whatever it is") {
  if (!shared_dir()) return skip("needs ../shared/tokenizers");
  for (const auto& tokenizer :
       published({"gpt2/tokenizer.json", "gpt2/vocab.bpe", "gpt_neox_20b/tokenizer.json", "llama3_1/tokenizer.json",
                  "qwen3/tokenizer.json", "mistral_tekken_v3/tekken.json", "llama3_tiktoken/tokenizer.model",
                  "qwen1_tiktoken/qwen.tiktoken", "ggml-vocab/ggml-vocab-gpt-2.gguf",
                  "ggml-vocab/ggml-vocab-deepseek-llm.gguf", "ggml-vocab/ggml-vocab-qwen35.gguf"}))
    check_round_trips(*tokenizer, 60);
}

TEST_CASE("bytes that are not UTF-8: U+FFFD by maximal subparts when decoded, refused by offset when encoded") {
  for (const auto& tokenizer : byte_level_vocabularies()) check_invalid_bytes(*tokenizer);
}

TEST_CASE("bytes that are not UTF-8, in published vocabularies") {
  if (!shared_dir()) return skip("needs ../shared/tokenizers");
  for (const auto& tokenizer : published({"gpt2/tokenizer.json", "mistral_tekken_v3/tekken.json",
                                          "llama3_tiktoken/tokenizer.model", "ggml-vocab/ggml-vocab-qwen2.gguf"}))
    check_invalid_bytes(*tokenizer);
}

TEST_CASE("a stream shows what the whole shows, after every token") {
  for (const auto& tokenizer : byte_level_vocabularies()) check_streams(*tokenizer, 4);
  for (const auto& tokenizer : other_vocabularies()) check_streams(*tokenizer, 25);
}

TEST_CASE("a stream shows what the whole shows, in published vocabularies") {
  if (!shared_dir()) return skip("needs ../shared/tokenizers");
  for (const auto& tokenizer :
       published({"gpt2/tokenizer.json", "mistral_tekken_v3/tekken.json", "llama2/tokenizer.json",
                  "llama2_spm/tokenizer.model", "mistral_v3_spm/tokenizer.model",
                  "ggml-vocab/ggml-vocab-llama-spm.gguf", "ggml-vocab/ggml-vocab-bert-bge.gguf"}))
    check_streams(*tokenizer, 8);
}

TEST_CASE("rules that make a text grow without end are an error") {
  const Json doubles = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  Json rules = {{"type", "Sequence"}, {"normalizers", Json::array()}};
  for (int i = 0; i < 40; ++i) rules["normalizers"].push_back(doubles);
  Json json = byte_level_json({});
  json["normalizer"] = rules;
  CHECK_THROWS_WITH(load_json(json)->encode("aaa"), ContainsSubstring("the text has grown"));
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", {doubles, rules}}};
  CHECK_THROWS_WITH(load_json(json)->encode("a"), ContainsSubstring("the text has grown"));
  json["normalizer"] = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(size_t{1} << 20, 'a')}};
  CHECK_THROWS_WITH(load_json(json)->encode(std::string(5000, 'a')), ContainsSubstring("the text has grown"));
}
