// vocab.txt: BERT's WordPiece vocabulary, a token a line, its id the number of the line (google-research/bert,
// tokenization.py). Whether letters lose case and accents is in tokenizer_config.json: without it they do, as in
// transformers, and where the list itself has capital letters a warning says so.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "text/tokenizer/tokenizer_config.h"
#include "text/tokenizer/word_piece.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

using Json = nlohmann::json;
constexpr int64_t kLongestWord = 100;  // characters, as transformers has it

std::shared_ptr<Vocabulary> read_lines(const std::string& path, bool& capitals) {
  const auto file = MappedFile::open(path);
  std::string_view text{reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
  check_utf8(text, path.c_str());
  auto vocabulary = std::make_shared<Vocabulary>();
  for (int64_t id = 0; !text.empty(); ++id) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    vocabulary->add(line, id);
    const auto is_capital = [](char c) { return c >= 'A' && c <= 'Z'; };
    if (!line.starts_with('[')) capitals = capitals || std::any_of(line.begin(), line.end(), is_capital);
  }
  return vocabulary;
}

}  // namespace

TokenizerParts load_word_list(const std::string& path, const TokenizerConfig& config) {
  TokenizerParts parts;
  parts.kind = "vocab.txt, WordPiece";
  bool capitals = false;
  parts.vocabulary = read_lines(path, capitals);

  const JsonNode settings = config.settings();
  const bool lowercase = settings.boolean_or("do_lower_case", true);
  if (capitals && !settings.has("do_lower_case"))
    parts.warnings.push_back(path + ": has words in capitals, and no tokenizer_config.json sets do_lower_case; text " +
                             "is lower-cased");
  const Json normalizer = {
      {"type", "BertNormalizer"},
      {"clean_text", true},
      {"handle_chinese_chars", settings.boolean_or("tokenize_chinese_chars", true)},
      {"strip_accents", settings.has("strip_accents") ? Json(settings.at("strip_accents").boolean()) : Json(nullptr)},
      {"lowercase", lowercase}};
  parts.normalizer = make_normalizer({normalizer, "normalizer"});
  parts.pre_tokenizer = make_pre_tokenizer({{{"type", "BertPreTokenizer"}}, "pre_tokenizer"});
  parts.decoder = make_decoder({{{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}, "decoder"});

  std::vector<NamedToken> usual;
  const auto special = [&](const char* name, const char* content) {
    AddedToken token;
    token.content = content;
    token.special = true;
    usual.emplace_back(name, std::move(token));
    return parts.vocabulary->find(config.named(name).value_or(content));
  };
  const auto required = [&](const char* name, const char* content) {
    const int32_t id = special(name, content);
    check(id >= 0, path.c_str(), "{} {} is not in the vocabulary", name, quote(config.named(name).value_or(content)));
    return id;
  };
  const int32_t unknown = required("unk_token", "[UNK]");
  parts.before = {required("cls_token", "[CLS]")};
  parts.after = {required("sep_token", "[SEP]")};
  special("pad_token", "[PAD]");
  special("mask_token", "[MASK]");
  config.add_tokens(parts, TokenizerConfig::ListedIds::order, std::move(usual));
  parts.model = std::make_unique<WordPiece>(parts.vocabulary, unknown, "##", kLongestWord);
  return parts;
}

}  // namespace lathe
