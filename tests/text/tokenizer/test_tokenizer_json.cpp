// tokenizer.json: BPE in its two forms, added tokens, what goes round a text, folders, and files that are broken.
#include <random>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "tests/text/tokenizer/small_vocabularies.h"
#include "text/unicode/unicode.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Ids = std::vector<int32_t>;

namespace {

// 256 "he", 257 "ll", 258 "hell", 259 "hello", 260 " w" (U+0120 w)
Json hello() { return byte_level_json({{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {"\u0120", "w"}}); }

std::string error_of(const Json& json) {
  TemporaryDirectory folder;
  return load_error(write_json(folder.path(), json));
}

}  // namespace

TEST_CASE("byte-level BPE merges by rank") {
  const auto tokenizer = load_json(hello());
  CHECK(tokenizer->kind() == "tokenizer.json, BPE");
  CHECK(tokenizer->vocab_size() == 261);
  CHECK(tokenizer->encode("hello world") == Ids{259, 260, 'o', 'r', 'l', 'd'});
  CHECK(tokenizer->encode("hhell") == Ids{'h', 258});
  CHECK(tokenizer->encode("lll") == Ids{257, 'l'});  // the leftmost of equals
  CHECK(tokenizer->encode("").empty());
  CHECK(tokenizer->encode("\u00e9") == Ids{0xC3, 0xA9});
  CHECK(tokenizer->token_id("\u0120w") == 260);
  CHECK(tokenizer->token_text(260) == "\u0120w");
  CHECK(tokenizer->token_bytes(260) == " w");
  CHECK(tokenizer->token_bytes(0xC3) == "\xC3");
  CHECK(!tokenizer->token_id("nothing"));
  CHECK(tokenizer->decode(Ids{259, 260}) == "hello w");
  CHECK(tokenizer->decode(Ids{-1, 259, 5000}) == "hello");  // ids without a token add nothing
}

TEST_CASE("what byte-level BPE encodes it gives back") {
  const auto tokenizer = load_json(hello());
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) {
      char32_t c = random() % 3 ? "hello w\n \t"[random() % 10] : random() % 0x110000;
      if (c >= 0xD800 && c < 0xE000) c = 'x';
      append_character(text, c);
    }
    const Ids ids = tokenizer->encode(text);
    CHECK(tokenizer->decode(ids) == text);
    CHECK(stream(*tokenizer, ids) == text);
  }
}

TEST_CASE("text that is not UTF-8 is refused by offset") {
  CHECK_THROWS_WITH(load_json(hello())->encode("ab\xff"), ContainsSubstring("offset 2"));
}

TEST_CASE("ignore_merges takes a piece that is a token as it is") {
  Json json = hello();
  json["model"]["vocab"]["abc"] = 261;
  CHECK(load_json(json)->encode("abc") == Ids{'a', 'b', 'c'});
  json["model"]["ignore_merges"] = true;
  CHECK(load_json(json)->encode("abc") == Ids{261});
  CHECK(load_json(json)->encode("abcabc") == Ids{'a', 'b', 'c', 'a', 'b', 'c'});
}

TEST_CASE("merges as lines of text") {
  Json json = hello();
  json["model"]["merges"] = {"#version: 0.2", "h e", "l l", "he ll"};
  CHECK(load_json(json)->encode("hello") == Ids{258, 'o'});
}

TEST_CASE("affixes of words") {
  Json json = byte_level_json({});
  json["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
  json["model"]["vocab"] = {{"a", 0}, {"##b", 1}, {"ab", 2}, {"c</w>", 3}, {"##c</w>", 4}, {"abc</w>", 5}};
  json["model"]["merges"] = Json::parse(R"([["a", "##b"], ["ab", "##c</w>"]])");
  json["model"]["continuing_subword_prefix"] = "##";
  json["model"]["end_of_word_suffix"] = "</w>";
  CHECK(load_json(json)->encode("abc c") == Ids{5, 3});
}

TEST_CASE("WordPiece and WordLevel") {
  Json json = byte_level_json({});
  json["normalizer"] = {{"type", "BertNormalizer"}};
  json["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  json["decoder"] = {{"type", "WordPiece"}};
  json["model"] = {{"type", "WordPiece"},
                   {"max_input_chars_per_word", 8},
                   {"vocab", {{"[UNK]", 0}, {"un", 1}, {"##able", 2}, {"##a", 3}, {",", 4}, {"a", 5}}}};
  const auto word_piece = load_json(json);
  CHECK(word_piece->encode("Unable, \u00c4 a") == Ids{1, 2, 4, 5, 5});
  CHECK(word_piece->encode("unab unableable") == Ids{0, 0});  // a part is unknown; too long
  CHECK(word_piece->decode(Ids{1, 2, 4, 5}) == "unable, a");
  json["model"]["type"] = "WordLevel";
  json["model"]["unk_token"] = "[UNK]";
  CHECK(load_json(json)->encode("un able a") == Ids{1, 0, 5});
  json["model"]["unk_token"] = "?";
  CHECK_THAT(error_of(json), ContainsSubstring("unk_token '?' is not in the vocabulary"));
}

TEST_CASE("the CTC decoder counts repeats once") {
  Json json = byte_level_json({});
  json["model"]["vocab"] = {{"<pad>", 0}, {"a", 1}, {"b", 2}, {"|", 3}};
  json["decoder"] = {{"type", "CTC"}, {"pad_token", "<pad>"}, {"word_delimiter_token", "|"}, {"cleanup", true}};
  CHECK(load_json(json)->decode(Ids{0, 1, 1, 0, 1, 2, 2, 3, 3, 0, 2}) == "aab b");
}

TEST_CASE("BPE with byte fallback, as Llama 2's") {
  const auto tokenizer = load_json(metaspace_json({{"▁", "a"}, {"▁a", "b"}}));
  CHECK(tokenizer->encode("ab a") == Ids{287, 286});
  CHECK(tokenizer->encode("\u00e9") == Ids{259, 0xC3 + 3, 0xA9 + 3});
  CHECK(tokenizer->encode("</s>a") == Ids{2, 286});  // added tokens are found, and each stretch gets its own prefix
  CHECK(tokenizer->encode("</s>a", {true, EncodeOptions::ParseSpecial::no}) ==
        Ids{259, '<' + 3, '/' + 3, 260 + 's' - 'a', '>' + 3, 260});
  CHECK(tokenizer->decode(Ids{287, 286}) == "ab a");
  CHECK(tokenizer->decode(Ids{1, 287}) == "<s> ab");
  CHECK(tokenizer->token_bytes(287) == " ab");
  CHECK(tokenizer->token_bytes('A' + 3) == "A");
  // Of a run of byte tokens that is broken anywhere, each byte shows one U+FFFD.
  CHECK(tokenizer->decode(Ids{0xC3 + 3, 0xA9 + 3, 0xC3 + 3, 286}) == "\ufffd\ufffd\ufffd a");
}

TEST_CASE("a long text without pre-tokeniser is cut exactly where no token reaches across") {
  const auto tokenizer = load_json(metaspace_json({{"▁", "▁"}, {"b", "▁"}, {"▁", "a"}, {"b▁", "a"}, {"a", "b"}}));
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    std::string text;
    for (int i = 0; i < 400; ++i) text += "ab  "[random() % 4];
    // Words between added tokens are short enough never to be cut; here nothing is remembered from them either.
    const Ids ids = tokenizer->encode(text);
    CHECK(tokenizer->decode(ids) == text);
    Ids expected;
    {
      // The textbook way: find the best pair of the whole, merge its leftmost place, again and again.
      std::vector<std::string> symbols;
      std::string escaped = "▁";
      for (char c : text) escaped += c == ' ' ? std::string("▁") : std::string(1, c);
      for (size_t i = 0; i < escaped.size();) {
        const size_t length = character_length(escaped[i]);
        symbols.push_back(escaped.substr(i, length));
        i += length;
      }
      const std::vector<std::pair<std::string, std::string>> rules = {
          {"▁", "▁"}, {"b", "▁"}, {"▁", "a"}, {"b▁", "a"}, {"a", "b"}};
      for (bool merged = true; merged;) {
        merged = false;
        for (size_t rule = 0; rule < rules.size() && !merged; ++rule)
          for (size_t i = 0; i + 1 < symbols.size() && !merged; ++i)
            if (symbols[i] == rules[rule].first && symbols[i + 1] == rules[rule].second) {
              symbols[i] += symbols[i + 1];
              symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
              merged = true;
            }
      }
      for (const auto& symbol : symbols) expected.push_back(*tokenizer->token_id(symbol));
    }
    CHECK(ids == expected);
  }
}

TEST_CASE("added tokens and their flags") {
  Json json = hello();
  auto with = [&](Json flags) {
    json["added_tokens"] = {added_token(261, "<t>", flags), added_token(262, "<t>x", {{"special", true}})};
    return load_json(json);
  };
  CHECK(with(Json::object())->encode("a <t> b") == Ids{'a', ' ', 261, ' ', 'b'});
  CHECK(with(Json::object())->encode("<t>x<t>y") == Ids{262, 261, 'y'});  // the longest
  CHECK(with(Json::object())->vocab_size() == 263);
  CHECK(with({{"lstrip", true}})->encode("a \n<t> b") == Ids{'a', 261, ' ', 'b'});
  CHECK(with({{"rstrip", true}})
            ->encode("a <t> \u3000"
                     "b") == Ids{'a', ' ', 261, 'b'});
  CHECK(with({{"single_word", true}})->encode("<t> a<t> <t>_") ==
        Ids{261, ' ', 'a', '<', 't', '>', ' ', '<', 't', '>', '_'});
  CHECK(with(Json::object())->is_special(262));
  CHECK(!with(Json::object())->is_special(261));
  CHECK(with(Json::object())->encode("<t>x", {true, EncodeOptions::ParseSpecial::no}) == Ids{'<', 't', '>', 'x'});
  CHECK(with(Json::object())->decode(Ids{261, 262}) == "<t><t>x");
}

TEST_CASE("white space that one added token took is not there for the next") {
  Json json = hello();
  json["added_tokens"] = {added_token(261, "<t>", {{"rstrip", true}}), added_token(262, "\n", {{"lstrip", true}})};
  CHECK(load_json(json)->encode("<t> \n\n b\nb") == Ids{261, 'b', 262, 'b'});
}

TEST_CASE("where unknown characters vanish, long text is merged whole") {
  // Without an unknown token, x is dropped, and a, which no token joins to a space, merges across the gap.
  Json json = metaspace_json({{"b", "▁"}, {"▁", "a"}, {"b▁", "a"}});
  for (const char* gone : {"x", "<0x78>"}) json["model"]["vocab"].erase(gone);
  json["model"].update({{"unk_token", nullptr}, {"byte_fallback", false}});
  std::string word, text;
  Ids expected = {*load_json(json)->token_id("▁")};
  for (int i = 0; i < 60; ++i) {
    text += "bx a";
    expected.push_back(*load_json(json)->token_id("b▁a"));
  }
  CHECK(load_json(json)->encode(text) == expected);
}

TEST_CASE("normalised added tokens are searched in the normalised text") {
  Json json = hello();
  json["normalizer"] = {{"type", "Lowercase"}};
  json["added_tokens"] = {added_token(261, "Day", {{"normalized", true}}), added_token(262, "[DAY]")};
  CHECK(load_json(json)->encode("aDAY[DAY][Day]") == Ids{'a', 261, 262, '[', 261, ']'});
}

TEST_CASE("what goes round a text") {
  Json json = hello();
  json["added_tokens"] = {added_token(261, "<b>", {{"special", true}}), added_token(262, "<e>", {{"special", true}})};
  json["post_processor"] = Json::parse(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "<b>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                  {"SpecialToken": {"id": "<e>", "type_id": 0}}],
       "pair": [], "special_tokens": {"<b>": {"id": "<b>", "ids": [261], "tokens": ["<b>"]},
                                      "<e>": {"id": "<e>", "ids": [262], "tokens": ["<e>"]}}}]})");
  CHECK(load_json(json)->encode("x") == Ids{261, 'x', 262});
  CHECK(load_json(json)->encode("x", {.add_special_tokens = false}) == Ids{'x'});
}

TEST_CASE("a folder: special tokens, templates, the stop set") {
  TemporaryDirectory folder;
  Json json = hello();
  json["added_tokens"] = {added_token(261, "<b>", {{"special", true}}), added_token(262, "<e>", {{"special", true}}),
                          added_token(263, "<|im_end|>", {{"special", true}}), added_token(264, "<|eot_id|>")};
  write_json(folder.path(), json);
  Json config = {
      {"bos_token", {{"content", "<b>"}}}, {"eos_token", "<e>"}, {"add_bos_token", true}, {"chat_template", "T"}};
  write_json(folder.path(), config, "tokenizer_config.json");
  const auto tokenizer = Tokenizer::load(folder.path().string());
  CHECK(tokenizer->bos() == 261);
  CHECK(tokenizer->eos() == 262);
  CHECK(tokenizer->encode("x") == Ids{261, 'x'});
  CHECK(tokenizer->end_of_turn_tokens() == Ids{262, 263});  // <|eot_id|> is no special token here
  CHECK(tokenizer->chat_template() == "T");

  config["chat_template"] = {{{"name", "default"}, {"template", "D"}}, {{"name", "tool_use"}, {"template", "U"}}};
  write_json(folder.path(), config, "tokenizer_config.json");
  CHECK(Tokenizer::load(folder.path().string())->chat_templates().at("tool_use") == "U");
  write_file(folder.path() / "chat_template.jinja", "file");
  write_file(folder.path() / "model.safetensors", "");
  CHECK(Tokenizer::load((folder.path() / "model.safetensors").string())->chat_template() == "file");
  write_file(folder.path() / "tokenizer_config.json", "{\"chat_template\": ");
  CHECK_THAT(load_error(folder.path()), ContainsSubstring("tokenizer_config.json"));
}

TEST_CASE("missing and foreign files are named") {
  TemporaryDirectory folder;
  CHECK_THAT(load_error(folder.path() / "nowhere"), ContainsSubstring("nowhere: no such file"));
  CHECK_THAT(load_error(folder.path()), ContainsSubstring("no tokenizer in this folder, expected one of"));
  write_file(folder.path() / "merges.txt", "a b\n");
  CHECK_THAT(load_error(folder.path() / "merges.txt"), ContainsSubstring("vocab.json is not beside it"));
  write_file(folder.path() / "x.model", "YWI= 0\nYWM= 1\n");
  CHECK_THAT(load_error(folder.path() / "x.model"), ContainsSubstring("ranks"));
  write_file(folder.path() / "y.model", "garbage");
  CHECK_THAT(load_error(folder.path() / "y.model"), ContainsSubstring("y.model: no sentencepiece model"));
  write_file(folder.path() / "z.dat", "garbage");
  CHECK_THAT(load_error(folder.path() / "z.dat"), ContainsSubstring("known"));
}

TEST_CASE("a tokenizer.json cut anywhere is an error") {
  TemporaryDirectory folder;
  const std::string whole = hello().dump();
  const auto path = folder.path() / "tokenizer.json";
  for (size_t length = 0; length < whole.size(); length += 1 + whole.size() / 150) {
    write_file(path, std::string_view(whole).substr(0, length));
    CHECK(load_error(path) != "");
  }
}

TEST_CASE("broken and unsupported components are named") {
  auto changed = [](const char* pointer, Json value) {
    Json json = hello();
    json[Json::json_pointer(pointer)] = std::move(value);
    return error_of(json);
  };
  CHECK_THAT(changed("/model/type", "Unheard"), ContainsSubstring("model type 'Unheard' is not supported"));
  CHECK_THAT(changed("/normalizer", {{"type", "Odd"}}), ContainsSubstring("normalizer type 'Odd' is not supported"));
  CHECK_THAT(changed("/decoder", {{"type", "Odd"}}), ContainsSubstring("decoder type 'Odd' is not supported"));
  CHECK_THAT(changed("/post_processor", {{"type", "Odd"}}), ContainsSubstring("post_processor type 'Odd'"));
  CHECK_THAT(changed("/decoder", {{"kind", "Odd"}}), ContainsSubstring("tokenizer.json.decoder: 'type' is missing"));
  CHECK_THAT(changed("/model/dropout", 0.1), ContainsSubstring("dropout"));
  CHECK_THAT(changed("/model/merges", Json::parse(R"([["h", "e"], ["q", "q"]])")), ContainsSubstring("rule 2"));
  CHECK_THAT(changed("/model/merges", Json::object()), ContainsSubstring("merges: expected an array"));
  CHECK_THAT(changed("/model/merges", {"h e l"}), ContainsSubstring("two tokens with one space"));
  CHECK_THAT(changed("/model/merges", Json::array({{"h"}})), ContainsSubstring("not two tokens"));
  CHECK_THAT(changed("/model/merges", Json::array({{"h", "e", "l"}})), ContainsSubstring("more than two"));
  CHECK_THAT(changed("/model/merges", Json::array({1})), ContainsSubstring("merges"));
  CHECK_THAT(changed("/model/vocab/x", -1), ContainsSubstring("id of token"));
  CHECK_THAT(changed("/model/vocab/new", 2000000000), ContainsSubstring("id of token"));
  CHECK_THAT(changed("/model/vocab/new", 0), ContainsSubstring("given twice"));
  CHECK_THAT(changed("/model/vocab/new", "text"), ContainsSubstring("vocab"));
  CHECK_THAT(changed("/model", "text"), ContainsSubstring("model"));
  CHECK_THAT(changed("/added_tokens", Json::array({{{"id", 1}}})), ContainsSubstring("'content' is missing"));
  CHECK_THAT(changed("/added_tokens", Json::array({added_token(-5, "x")})), ContainsSubstring("out of range"));
  Json deep = 1;
  for (int i = 0; i < 1000; ++i) deep = Json::array({deep});
  CHECK_THAT(changed("/extra", deep), ContainsSubstring("deeper"));
}

TEST_CASE("garbage among the merges cannot make encoding run on") {
  // A rule with an empty token, one that makes what it is made of, and one given twice.
  Json json = hello();
  json["model"]["vocab"][""] = 300;
  json["model"]["merges"] = Json::parse(R"([["", "h"], ["h", ""], ["h", "e"], ["h", "e"]])");
  CHECK(load_json(json)->encode("hehe") == Ids{256, 256});
}

TEST_CASE("the stream law: parts are whole characters and join to what decode gives, at every length") {
  Json byte_level = hello(), metaspace = metaspace_json({{"▁", "a"}}), plain = hello(), words = hello();
  plain["decoder"] = nullptr;
  words["decoder"] = {{"type", "WordPiece"}, {"prefix", "l"}, {"cleanup", true}};
  Json stripped = metaspace;
  stripped["decoder"]["decoders"][3] = {{"type", "Strip"}, {"content", " "}, {"start", 2}, {"stop", 3}};
  Json bpe = hello();
  bpe["decoder"] = {{"type", "BPEDecoder"}, {"suffix", "o"}};
  Json speech = hello();
  speech["decoder"] = {{"type", "CTC"}, {"pad_token", "h"}, {"word_delimiter_token", "e"}, {"cleanup", true}};
  Json meta = metaspace;
  meta["decoder"] = {{"type", "Metaspace"}, {"replacement", "▁"}};
  std::mt19937 random(11);
  for (const Json& json : {byte_level, metaspace, plain, words, stripped, bpe, meta, speech}) {
    const auto tokenizer = load_json(json);
    for (int round = 0; round < 60; ++round) {
      Ids ids;
      for (int i = 0; i < 24; ++i) {
        ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(tokenizer->vocab_size())));
        CHECK(stream(*tokenizer, ids) == tokenizer->decode(ids));
      }
    }
  }
}

TEST_CASE("a byte-level stream is the whole's bytes, repaired") {
  const auto tokenizer = load_json(hello());
  std::mt19937 random(13);
  for (int round = 0; round < 200; ++round) {
    Ids ids;
    std::string bytes;
    for (int i = 0; i < 20; ++i) {
      ids.push_back(static_cast<int32_t>(random() % 2 ? 0x80 + random() % 0x80 : random() % 261));
      bytes += tokenizer->token_bytes(ids.back());
    }
    Utf8Repair repair;
    std::string expected = repair.push(bytes);
    expected += repair.finish();
    CHECK(stream(*tokenizer, ids) == expected);
  }
}
