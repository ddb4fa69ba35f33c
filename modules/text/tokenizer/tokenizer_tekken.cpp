// tekken.json, Mistral's vocabulary of bytes with ranks (mistral-common, tokens/tokenizers/tekken.py).
//
// The special tokens have the first ids, `default_num_special_tokens` of them, and the ranks follow; the file may hold
// more ranks than `default_vocab_size` leaves room for, and those beyond are not used. Files up to version 7 may leave
// the special tokens to the program. As in the reference no special token is read from text unless it is asked for.
#include <array>
#include <nlohmann/json.hpp>

#include "formats/base64.h"
#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "formats/strict_json.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/byte_level_scheme.h"
#include "text/tokenizer/tokenizer_config.h"

namespace lathe {
namespace {

using Json = nlohmann::json;

constexpr std::array kStandardSpecialTokens = {"<unk>",
                                               "<s>",
                                               "</s>",
                                               "[INST]",
                                               "[/INST]",
                                               "[AVAILABLE_TOOLS]",
                                               "[/AVAILABLE_TOOLS]",
                                               "[TOOL_RESULTS]",
                                               "[/TOOL_RESULTS]",
                                               "[TOOL_CALLS]",
                                               "[IMG]",
                                               "<pad>",
                                               "[IMG_BREAK]",
                                               "[IMG_END]",
                                               "[PREFIX]",
                                               "[MIDDLE]",
                                               "[SUFFIX]",
                                               "[SYSTEM_PROMPT]",
                                               "[/SYSTEM_PROMPT]",
                                               "[TOOL_CONTENT]"};
constexpr int64_t kLastVersionWithout = 7;

// The number in "v3".
int64_t version_of(const JsonNode& config) {
  const JsonNode node = config.at("version");
  const std::string text = node.string();
  if (text.size() < 2 || text.size() > 4 || text[0] != 'v' ||
      text.find_first_not_of("0123456789", 1) != std::string::npos)
    node.fail(fmt::format("expected \"v\" and a number, found {}", quote(text)));
  return std::stoll(text.substr(1));
}

int64_t count_of(const JsonNode& config, const char* name) {
  const int64_t count = config.at(name).integer();
  if (count < 0 || count > Vocabulary::kMaxSize) config.at(name).fail(fmt::format("{} is out of range", count));
  return count;
}

void read_special_tokens(const JsonNode& document, int64_t count, TokenizerParts& parts) {
  std::vector<std::string> contents(static_cast<size_t>(count));
  int64_t given = 0;
  if (document.has("special_tokens")) {
    const JsonNode list = document.at("special_tokens");
    given = static_cast<int64_t>(list.size());
    if (given > count) list.fail(fmt::format("{} tokens, default_num_special_tokens is {}", given, count));
    for (size_t i = 0; i < list.size(); ++i) {
      const JsonNode node = list.at(i);
      const int64_t id = node.at("rank").integer();
      if (id < 0 || id >= given) node.fail(fmt::format("rank {}, expected 0 to {}", id, given - 1));
      std::string& content = contents[static_cast<size_t>(id)];
      if (!content.empty()) node.fail(fmt::format("rank {} is given twice", id));
      content = node.at("token_str").string();
      if (content.empty()) node.fail("token_str is empty");
    }
  } else {
    const JsonNode config = document.at("config");
    if (version_of(config) > kLastVersionWithout)
      document.fail(fmt::format("special_tokens is missing, which files of version {} must have",
                                quote(config.at("version").string())));
    given = static_cast<int64_t>(kStandardSpecialTokens.size());
    if (count < given) config.fail(fmt::format("default_num_special_tokens is {}, expected at least {}", count, given));
    std::copy(kStandardSpecialTokens.begin(), kStandardSpecialTokens.end(), contents.begin());
  }
  for (int64_t id = 0; id < count; ++id) {
    AddedToken token;
    token.content = id < given ? contents[static_cast<size_t>(id)] : fmt::format("<SPECIAL_{}>", id);
    token.id = static_cast<int32_t>(id);
    token.special = true;
    if (token.content == "<s>") parts.bos = token.id;
    if (token.content == "</s>") parts.eos = token.id;
    parts.added.push_back(std::move(token));
  }
}

std::shared_ptr<Vocabulary> read_ranks(const JsonNode& list, int64_t count, int64_t first_id) {
  if (static_cast<int64_t>(list.size()) < count)
    list.fail(fmt::format("{} tokens, default_vocab_size asks for {}", list.size(), count));
  auto vocabulary = std::make_shared<Vocabulary>();
  std::string spelled;
  for (int64_t rank = 0; rank < count; ++rank) {
    const Json& token = list.value()[static_cast<size_t>(rank)];
    const auto fail = [&](const std::string& message) { list.at(static_cast<size_t>(rank)).fail(message); };
    if (!token.is_object() || token.value("rank", Json()) != rank)
      fail(fmt::format("expected an object, rank {}", rank));
    const auto text = token.find("token_bytes");
    const auto bytes =
        text != token.end() && text->is_string() ? decode_base64(text->get_ref<const std::string&>()) : std::nullopt;
    if (!bytes || bytes->empty()) fail("token_bytes is not base64");
    spelled.clear();
    append_to_alphabet(spelled, *bytes);
    if (const int32_t known = vocabulary->find(spelled); known >= 0)
      fail(fmt::format("the bytes are those of rank {}", known - first_id));
    vocabulary->add(spelled, first_id + rank);
  }
  return vocabulary;
}

}  // namespace

TokenizerParts load_tekken(const std::string& path, const TokenizerConfig& config) {
  const auto file = MappedFile::open(path);
  const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
  Json json;  // not read strictly: a hundred thousand objects of three keys
  try {
    json = Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error& error) {
    throw Error(path + ": " + parse_problem(text, error.byte));
  } catch (const Json::exception&) {
    throw Error(path + ": a number is beyond the range of float64");
  }
  const JsonNode document(json, path);
  const JsonNode sizes = document.at("config");
  const int64_t special = count_of(sizes, "default_num_special_tokens");
  const int64_t ranks = count_of(sizes, "default_vocab_size") - special;
  if (ranks < 0)
    sizes.fail(fmt::format("default_vocab_size is {}, less than the {} special tokens", ranks + special, special));

  TokenizerParts parts;
  parts.kind = "tekken, " + sizes.at("version").string();
  parts.reads_special = false;
  read_special_tokens(document, special, parts);
  parts.vocabulary = read_ranks(document.at("vocab"), ranks, special);
  parts.model = make_rank_bpe(parts.vocabulary, special);
  apply_byte_level_scheme({"", sizes.at("pattern").string(), false}, false, parts);
  config.add_tokens(parts, TokenizerConfig::ListedIds::ids);
  show_added_tokens_as_bytes(parts);
  if (parts.bos) parts.before = {*parts.bos};
  return parts;
}

}  // namespace lathe
