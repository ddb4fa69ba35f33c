// The one merge of the tokens that files beside a vocabulary add to it. The ids are those of transformers 5.23
// (AutoTokenizer) for the same files, where the form is one of `tokenizers`.
#include "tests/catch.h"
#include "tests/support.h"
#include "tests/text/tokenizer/vocabulary_forms.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Ids = std::vector<int32_t>;
using Names = std::map<std::string, std::string>;

namespace {

Json flags(const std::string& content, Json more = Json::object()) {
  more["content"] = content;
  return more;
}

// A folder with the 256 bytes as tokenizer.json (id = byte), and `added` in it, 256 first.
struct Bytes : Folder {
  explicit Bytes(std::initializer_list<Json> added = {}) {
    Json json = byte_level_json({});
    json["added_tokens"] = std::vector<Json>(added);
    write("tokenizer.json", json);
  }
  void config(Json settings) const { write("tokenizer_config.json", settings); }
};

}  // namespace

TEST_CASE("tokenizer.json: tokens that only tokenizer_config.json lists are added, and read") {
  const Bytes folder;
  folder.config({{"added_tokens_decoder",
                  {{"256", flags("<a>", {{"special", true}})}, {"257", flags("Nice", {{"single_word", true}})}}}});
  const auto tokenizer = folder.load();
  CHECK(tokenizer->encode("x<a>Nice Nicer") == Ids{'x', 256, 257, ' ', 'N', 'i', 'c', 'e', 'r'});
  CHECK(tokenizer->decode(Ids{256, 257}) == "<a>Nice");
  CHECK(tokenizer->is_special(256));
  CHECK_FALSE(tokenizer->is_special(257));
  CHECK(tokenizer->vocab_size() == 258);
  CHECK(tokenizer->warnings().empty());
}

TEST_CASE("tokenizer.json: special tokens of one model are read, and named for templates") {
  const Bytes folder;
  folder.config({{"model_specific_special_tokens", {{"audio_token", "<audio>"}}}});
  const auto tokenizer = folder.load();
  CHECK(tokenizer->encode("a<audio>b") == Ids{'a', 256, 'b'});
  CHECK(tokenizer->is_special(256));
}

TEST_CASE("tokenizer.json: the flags of tokenizer_config.json count for a token that both list") {
  const Bytes folder({added_token(256, "<m>", {{"special", true}, {"normalized", false}}),
                      added_token(257, "tool", {{"special", false}, {"normalized", false}})});
  CHECK(folder.load()->encode("a  <m> tools") == Ids{'a', ' ', ' ', 256, ' ', 257, 's'});
  folder.config({{"added_tokens_decoder",
                  {{"256", flags("<m>", {{"special", true}, {"lstrip", true}})},
                   {"257", flags("tool", {{"single_word", true}, {"special", true}})}}}});
  const auto tokenizer = folder.load();
  CHECK(tokenizer->encode("a  <m> tools") == Ids{'a', 256, ' ', 't', 'o', 'o', 'l', 's'});
  CHECK(tokenizer->is_special(257));
  // What is special once stays so: the reference keeps the texts of special tokens for ever.
  folder.config({{"added_tokens_decoder", {{"256", flags("<m>", {{"special", false}, {"rstrip", true}})}}}});
  CHECK(folder.load()->is_special(256));
  CHECK(folder.load()->encode("a <m>  b") == Ids{'a', ' ', 256, 'b'});
}

TEST_CASE("tokenizer.json: special tokens by name are added, in the order of the names") {
  const Bytes folder;
  folder.config({{"pad_token", "<p>"},
                 {"eos_token", {{"__type", "AddedToken"}, {"content", "<e>"}, {"lstrip", true}}},
                 {"image_token", "<i>"},
                 {"bos_token", nullptr},
                 {"add_bos_token", true},
                 {"extra_special_tokens", {{"boi_token", "<b>"}}},
                 {"additional_special_tokens", {"<p>", flags("<f>", {{"rstrip", true}})}}});
  const auto tokenizer = folder.load();
  CHECK(tokenizer->encode("<p> <e><b><i><f> x") == Ids{257, 256, 259, 258, 260, 'x'});
  CHECK(tokenizer->named_tokens() ==
        Names{{"pad_token", "<p>"}, {"eos_token", "<e>"}, {"image_token", "<i>"}, {"boi_token", "<b>"}});
  CHECK(tokenizer->eos() == 256);
  CHECK_FALSE(tokenizer->bos());
}

TEST_CASE("special_tokens_map.json counts before tokenizer_config.json, unless that lists the added tokens") {
  const Bytes folder;
  folder.write("special_tokens_map.json",
               Json{{"eos_token", flags("<y>", {{"rstrip", true}})}, {"additional_special_tokens", {"<z>"}}});
  folder.config({{"eos_token", "<x>"}});
  const auto by_map = folder.load();
  CHECK(by_map->encode("<y> <z><x>") == Ids{256, 257, '<', 'x', '>'});
  CHECK(by_map->named_tokens() == Names{{"eos_token", "<y>"}});
  folder.config({{"eos_token", "<x>"}, {"additional_special_tokens", {"<w>"}}});
  CHECK(folder.load()->encode("<z><w>") == Ids{'<', 'z', '>', 257});  // one list of further tokens counts
  folder.config({{"eos_token", "<x>"}, {"added_tokens_decoder", Json::object()}});
  CHECK(folder.load()->encode("<y><x>") == Ids{'<', 'y', '>', 256});
}

TEST_CASE("added_tokens.json: in the order of the ids, special where a name says so") {
  const Bytes folder;
  folder.write("added_tokens.json", Json{{"<b>", 257}, {"<a>", 256}});
  folder.config({{"eos_token", "<b>"}});
  const auto tokenizer = folder.load();
  CHECK(tokenizer->encode("<b><a>") == Ids{257, 256});
  CHECK(tokenizer->is_special(257));
  CHECK_FALSE(tokenizer->is_special(256));
  // The reference reads the ids as an order; that one differs is said.
  folder.write("added_tokens.json", Json{{"<b>", 400}});
  CHECK(folder.load()->encode("<b>") == Ids{256});
  CHECK_THAT(folder.load()->warnings().at(0), ContainsSubstring("'<b>' is listed with id 400, it gets 256"));
}

TEST_CASE("split_special_tokens: special tokens are text unless they are asked for") {
  const Bytes folder({added_token(256, "<m>", {{"special", true}, {"normalized", false}})});
  folder.config({{"split_special_tokens", true}});
  CHECK(folder.load()->encode("<m>") == Ids{'<', 'm', '>'});
  CHECK(folder.load()->encode("<m>", {.parse_special = EncodeOptions::ParseSpecial::yes}) == Ids{256});
}

TEST_CASE("the same merge beside vocab.json, vocab.txt, tekken.json and ranks") {
  const Folder two;  // 263 tokens, the last of them <|endoftext|>
  write_two_files(two.path());
  two.write("special_tokens_map.json", Json{{"pad_token", "<p>"}});
  two.write("tokenizer_config.json", Json{{"tokenizer_class", "GPT2Tokenizer"}, {"extra_special_tokens", {"<q>"}}});
  CHECK(two.load()->encode("<q><p>") == Ids{264, 263});
  CHECK(two.load()->named_tokens() == Names{{"bos_token", "<|endoftext|>"},
                                            {"eos_token", "<|endoftext|>"},
                                            {"unk_token", "<|endoftext|>"},
                                            {"pad_token", "<p>"}});

  const Folder words;
  words.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##able\n");
  words.write("tokenizer_config.json",
              Json{{"tokenizer_class", "BertTokenizer"}, {"bos_token", "<s>"}, {"sep_token", "[MASK]"}});
  CHECK(words.load()->encode("un <s>") == Ids{2, 5, 7, 4});

  const Folder tekken;
  tekken.write("tekken.json", tekken_json(byte_tokens(), 5, {"<unk>", "<s>", "</s>", "[INST]"}, "v11"));
  tekken.write("tokenizer_config.json", Json{{"pad_token", "<pad>"}, {"image_token", "[INST]"}});
  CHECK(tekken.load()->token_id("<pad>") == 267);
  CHECK(tekken.load()->named_tokens().at("image_token") == "[INST]");

  const Folder ranks;
  ranks.write("tokenizer.model", tiktoken_ranks(byte_tokens()));
  ranks.write("tokenizer_config.json", Json{{"added_tokens_decoder", {{"270", flags("<r>", {{"special", true}})}}}});
  CHECK(ranks.load("gpt2")->token_id("<r>") == 270);  // here the ids are the model's rows
}

TEST_CASE("what is no token is named") {
  const Bytes folder;
  const auto refusal = [&](const Json& settings) {
    folder.config(settings);
    return load_error(folder.name());
  };
  CHECK_THAT(refusal({{"bos_token", 5}}),
             ContainsSubstring("tokenizer_config.json.bos_token: expected a string, found 5"));
  CHECK_THAT(refusal({{"pad_token", {{"text", "x"}}}}), ContainsSubstring("pad_token: 'content' is missing"));
  CHECK_THAT(refusal({{"additional_special_tokens", "<x>"}}),
             ContainsSubstring("additional_special_tokens: expected an array, found '<x>'"));
  CHECK_THAT(refusal({{"extra_special_tokens", {"a", nullptr}}}),
             ContainsSubstring("extra_special_tokens[1]: expected a string, found null"));
  CHECK_THAT(refusal({{"added_tokens_decoder", {{"9999999999", flags("a")}}}}), ContainsSubstring("is out of range"));
  CHECK_THAT(refusal({{"added_tokens_decoder", {{"256", "a"}}}}), ContainsSubstring("expected an object, found 'a'"));
  folder.config(Json::object());
  folder.write("added_tokens.json", Json{{"a", 1.5}});
  CHECK_THAT(load_error(folder.name()), ContainsSubstring("added_tokens.json: 'a': expected an integer, found 1.5"));
}
