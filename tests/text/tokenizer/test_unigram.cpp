// Unigram models and compiled normalisation rules: what they give, and hostile files.
#include <limits>
#include <nlohmann/json.hpp>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "tests/text/tokenizer/small_vocabularies.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/token_trie.h"
#include "text/tokenizer/unigram.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Ids = std::vector<int32_t>;

namespace {

Json unigram_json(const Json& vocabulary, const Json& unknown = 0, bool byte_fallback = false) {
  return {
      {"version", "1.0"},
      {"added_tokens", Json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"decoder", nullptr},
      {"model", {{"type", "Unigram"}, {"unk_id", unknown}, {"vocab", vocabulary}, {"byte_fallback", byte_fallback}}}};
}

std::string unigram_error(const Json& json) {
  TemporaryDirectory folder;
  return load_error(write_json(folder.path(), json));
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k)
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) text += i + k > bytes.size() ? '=' : kDigits[group >> (18 - 6 * k) & 63];
  }
  return text;
}

std::string little_endian(const std::vector<uint32_t>& numbers) {
  std::string bytes;
  for (uint32_t number : numbers)
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(number >> shift & 0xFF);
  return bytes;
}

// A double array for the rules "a" -> 0 and "ab" -> 2 of `replacements`. The root's children lie in block 256, those of
// the node for "a" in block 512; a child is at its block xor its byte, the leaf's value at the block itself.
std::vector<uint32_t> small_trie() {
  std::vector<uint32_t> units(1024, 0x80000000u);
  auto unit = [](uint32_t label, uint32_t here, uint32_t children, bool leaf) {
    return (here ^ children) << 10 | (leaf ? 1u << 8 : 0) | label;
  };
  units[0] = unit(0, 0, 256, false);
  units[256 ^ 'a'] = unit('a', 256 ^ 'a', 512, true);
  units[512] = 0x80000000u | 0;
  units[512 ^ 'b'] = unit('b', 512 ^ 'b', 768, true);
  units[768] = 0x80000000u | 2;
  return units;
}

std::string charsmap_bytes(const std::vector<uint32_t>& units, std::string_view replacements = {"x\0yz\0", 5}) {
  return little_endian({static_cast<uint32_t>(4 * units.size())}) + little_endian(units) + std::string(replacements);
}

std::string normalized(const Normalizer& normalizer, std::string text) {
  normalizer.apply(text);
  return text;
}

}  // namespace

TEST_CASE("the trie finds every token that a text begins with, the shortest first") {
  const TokenTrie trie({{"ab", 1}, {"", 9}, {"a", 0}, {"abc", 2}, {"b", 3}, {"ab", 4}});
  std::vector<std::pair<size_t, int32_t>> found;
  trie.each_prefix("abcd", [&](size_t length, int32_t id) { found.emplace_back(length, id); });
  CHECK(found == std::vector<std::pair<size_t, int32_t>>{{1, 0}, {2, 4}, {3, 2}});
  found.clear();
  trie.each_prefix("", [&](size_t length, int32_t id) { found.emplace_back(length, id); });
  TokenTrie({}).each_prefix("a", [&](size_t length, int32_t id) { found.emplace_back(length, id); });
  CHECK(found.empty());
}

TEST_CASE("Unigram takes the cut with the highest sum of scores") {
  // The example of `tokenizers`, models/unigram/model.rs.
  const auto tokenizer = load_json(unigram_json(Json::parse(R"([["<unk>", 0], ["a", 0], ["b", 0], ["c", 0], ["d", 0],
      ["cd", 1], ["ab", 2], ["abc", 5], ["abcd", 10]])")));
  CHECK(tokenizer->kind() == "tokenizer.json, Unigram");
  CHECK(tokenizer->encode("abcdacdxx") == Ids{8, 1, 5, 0});  // neighbouring unknown characters are one unknown token
  CHECK(tokenizer->encode("x<unk>\u00e9") == Ids{0});
  CHECK(tokenizer->encode("").empty());
  // Between equal sums the last token that begins first wins.
  const auto tied = load_json(unigram_json(Json::parse(R"([["<unk>", 0], ["a", -1], ["aa", -2], ["aaa", -3]])")));
  CHECK(tied->encode("aaaa") == Ids{1, 3});
}

TEST_CASE("Unigram: unknown characters become bytes where there are all of them") {
  Json vocabulary = Json::parse(R"([["<unk>", 0], ["a", -1]])");
  vocabulary.push_back({"<0xC3>", -5});
  CHECK(load_json(unigram_json(vocabulary, 0, true))->encode("a\u00e9") == Ids{1, 0});
  vocabulary.push_back({"<0xA9>", -5});
  CHECK(load_json(unigram_json(vocabulary, 0, true))->encode("a\u00e9") == Ids{1, 2, 3});
  CHECK(load_json(unigram_json(vocabulary, 0, false))->encode("a\u00e9") == Ids{1, 0});
}

TEST_CASE("Unigram without an unknown token refuses what it cannot spell") {
  const auto tokenizer = load_json(unigram_json(Json::parse(R"([["a", -1]])"), nullptr));
  CHECK(tokenizer->encode("aa") == Ids{0, 0});
  CHECK_THROWS_WITH(tokenizer->encode("ab"), ContainsSubstring("'b' is no token"));
}

TEST_CASE("Unigram explains the ids it gives") {
  auto vocabulary = std::make_shared<Vocabulary>();
  for (const char* text : {"<unk>", "a", "ab"}) vocabulary->add(text, vocabulary->size());
  const Unigram model(vocabulary, {0, -1, -3}, {0, 1, 2}, {.unknown = 0, .unknown_score = -13});
  Ids ids, explained;
  model.tokenize("aabxy", ids);
  const auto steps = model.explain("aabxy", explained);
  CHECK(ids == Ids{1, 2, 0});
  CHECK(explained == ids);
  REQUIRE(steps.size() == 3);
  CHECK(steps[1].begin == 1);
  CHECK(steps[1].end == 3);
  CHECK(steps[1].weight == -3);
  CHECK(steps[2].end == 5);
  CHECK_THROWS_WITH(Unigram(vocabulary, {0, std::numeric_limits<double>::quiet_NaN(), 0}, {0, 1, 2}, {}),
                    ContainsSubstring("score of token 1"));
  CHECK_THROWS_WITH(Unigram(vocabulary, {0}, {0}, {}), ContainsSubstring("1 scores for 3 tokens"));
  CHECK_THROWS_WITH(Unigram(vocabulary, {0, 0, 0}, {0}, {.unknown = 3}), ContainsSubstring("unknown token is 3"));
}

TEST_CASE("Unigram: broken vocabularies are errors") {
  CHECK_THAT(unigram_error(unigram_json(Json::array())), ContainsSubstring("vocab is empty"));
  CHECK_THAT(unigram_error(unigram_json(Json::parse(R"([["a", 0]])"), 1)), ContainsSubstring("unk_id is 1"));
  CHECK_THAT(unigram_error(unigram_json(Json::parse(R"([["a", 0]])"), -1)), ContainsSubstring("unk_id is -1"));
  for (const char* vocabulary : {R"([["a"]])", R"([["a", "b"]])", R"([["a", 1, 2]])", R"([[1, 1]])", R"(["a"])",
                                 R"([["a", null]])", R"([[["a"], 1]])", R"([[]])", R"([["a", 1, "b"]])"})
    CHECK_THAT(unigram_error(unigram_json(Json::parse(vocabulary))), ContainsSubstring("vocab"));
  CHECK_THAT(unigram_error(unigram_json(Json::object())), ContainsSubstring("vocab: expected an array"));
  TemporaryDirectory folder;
  std::string text = unigram_json(Json::parse(R"([["a", 77]])")).dump();
  text.replace(text.find("77"), 2, "1e999");
  write_file(folder.path() / "tokenizer.json", text);
  CHECK(load_error(folder.path()) != "");
}

TEST_CASE("truncation and padding are named, and not applied") {
  Json json = unigram_json(Json::parse(R"([["<unk>", 0], ["a", -1]])"));
  json["truncation"] = {{"max_length", 2}, {"strategy", "LongestFirst"}, {"stride", 0}, {"direction", "Right"}};
  const auto tokenizer = load_json(json);
  CHECK(tokenizer->encode("aaaa").size() == 4);
  REQUIRE(tokenizer->warnings().size() == 1);
  CHECK_THAT(tokenizer->warnings()[0], ContainsSubstring("truncation is not applied"));
}

TEST_CASE("a charsmap finds the shortest and the longest rule") {
  const Charsmap charsmap(charsmap_bytes(small_trie()));
  CHECK(charsmap.shortest("abc")->replacement == "x");
  CHECK(charsmap.shortest("abc")->length == 1);
  CHECK(charsmap.longest("abc")->replacement == "yz");
  CHECK(charsmap.longest("abc")->length == 2);
  CHECK(!charsmap.longest("c"));
  CHECK(!charsmap.shortest(""));
  CHECK(!Charsmap("").longest("a"));
}

TEST_CASE("Precompiled replaces whole graphemes by the shortest rule") {
  const Json node = {{"type", "Precompiled"}, {"precompiled_charsmap", base64(charsmap_bytes(small_trie()))}};
  const auto normalizer = make_normalizer(JsonNode(node, "test"));
  CHECK(normalized(*normalizer, "abca") == "xbcx");
  CHECK(normalized(*normalizer, "a\u0301b") == "xb");  // the mark goes with its letter, as in the reference
  CHECK(normalized(*normalizer, "a\u0301\u0301\u0301") == "x\u0301\u0301\u0301");  // 7 bytes: character by character
  CHECK(normalized(*normalizer, "\r\nc") == "\r\nc");
}

TEST_CASE("the t5 normaliser takes the longest rule and minds spaces") {
  const Charsmap charsmap(charsmap_bytes(small_trie()));
  CHECK(normalized(*make_unigram_normalizer(charsmap, true, false), "ab  c") == "▁yz▁▁c");
  CHECK(normalized(*make_unigram_normalizer(charsmap, true, true), "  ab  c ") == "▁yz▁c");
  CHECK(normalized(*make_unigram_normalizer(charsmap, false, false), "a") == "x");
}

TEST_CASE("hostile charsmaps are errors") {
  auto error = [](const std::string& bytes) -> std::string {
    try {
      const Charsmap charsmap(bytes);
    } catch (const Error& caught) {
      return caught.what();
    }
    return "";
  };
  CHECK_THAT(error("abc"), ContainsSubstring("3 bytes"));
  CHECK_THAT(error(little_endian({400}) + "x"), ContainsSubstring("the trie has 400 bytes"));
  CHECK_THAT(error(little_endian({3}) + "xxx"), ContainsSubstring("the trie has 3 bytes"));
  CHECK_THAT(error(charsmap_bytes(small_trie(), "\xff\xff\xff")), ContainsSubstring("not valid UTF-8"));
  CHECK_THAT(error(charsmap_bytes(small_trie(), "x")), ContainsSubstring("begins at byte 2 of 1"));
  CHECK_THAT(error(charsmap_bytes(small_trie(), std::string(3000, 'x'))), ContainsSubstring("3000 bytes"));
  auto units = small_trie();
  units[256 ^ 'a'] = (5000u << 10) | 'a';
  CHECK_THAT(error(charsmap_bytes(units)), ContainsSubstring("the children of node"));
  units = small_trie();
  units[0] = 0x80000000u;
  CHECK_THAT(error(charsmap_bytes(units)), ContainsSubstring("the trie's root is a leaf"));
  // A node that is its own child: every search is as long as its text, and no longer.
  units = small_trie();
  units[256 ^ 'a'] = ((256u ^ 'a') ^ 256u) << 10 | 'a';
  CHECK(!Charsmap(charsmap_bytes(units)).longest(std::string(10000, 'a')));
  const Json broken = {{"type", "Precompiled"}, {"precompiled_charsmap", "!!!"}};
  CHECK_THROWS_WITH(make_normalizer(JsonNode(broken, "test")), ContainsSubstring("expected base64"));
  const Json cut = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAA="}};
  CHECK_THROWS_WITH(make_normalizer(JsonNode(cut, "test")), ContainsSubstring("test: precompiled_charsmap"));
}
