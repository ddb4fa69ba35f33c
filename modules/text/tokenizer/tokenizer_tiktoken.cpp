// tiktoken's rank files (openai/tiktoken, load.py): a line a token, its bytes in base64, a space, its rank, which is
// its id too.
//
// Encoding is tiktoken's: a piece that is a token is that token; else the two neighbours whose joined bytes have the
// lowest rank merge first. The bytes are spelled in GPT-2's alphabet, as everywhere here, so the model that joins text
// serves. The file holds neither pattern nor special tokens: --pattern or tokenizer_config.json gives both, and without
// either it is refused. Meta's program cuts runs of more than 25,000 letters before it encodes them, because tiktoken
// is slow on them; nothing is cut here.
#include <charconv>
#include <nlohmann/json.hpp>

#include "formats/base64.h"
#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/byte_level_scheme.h"
#include "text/tokenizer/tokenizer_config.h"

namespace lathe {
namespace {

void read_ranks(const std::string& path, Vocabulary& vocabulary) {
  const auto file = MappedFile::open(path);
  std::string_view text{reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
  std::string spelled;
  for (int64_t line = 1; !text.empty(); ++line) {
    const std::string_view row = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(row.size() + 1, text.size()));
    if (row.empty()) continue;
    const size_t space = row.find(' ');
    const auto bytes = space == row.npos ? std::nullopt : decode_base64(row.substr(0, space));
    int64_t rank = -1;
    const char* end = row.data() + row.size();
    const bool whole = bytes && std::from_chars(row.data() + space + 1, end, rank).ptr == end;
    check(whole && !bytes->empty(), path.c_str(), "line {} is {}, expected base64, a space and a rank", line,
          quote(row.substr(0, 100)));
    spelled.clear();
    append_to_alphabet(spelled, *bytes);
    check(vocabulary.find(spelled) < 0, path.c_str(), "line {}: the token of rank {} has rank {} already", line, rank,
          vocabulary.find(spelled));
    vocabulary.add(spelled, rank);
  }
}

// What comes behind the ranks, in the order of the ids, for files that have the published number of them.
std::vector<std::string> published_special_tokens(const std::string& scheme, int64_t ranks) {
  std::vector<std::string> tokens;
  if (scheme == "gpt2" && ranks == 50256) {
    tokens = {"<|endoftext|>"};
  } else if (scheme == "qwen" && ranks == 151643) {
    tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    for (int i = 0; i < 205; ++i) tokens.push_back(fmt::format("<|extra_{}|>", i));
  } else if (scheme == "llama3" && ranks == 128000) {
    // As Meta's program numbers them. Checkpoints of Llama 3.0 call some of the reserved ones by other names, which do
    // not matter unless tokenizer_config.json says so.
    tokens = {"<|begin_of_text|>",
              "<|end_of_text|>",
              "<|reserved_special_token_0|>",
              "<|reserved_special_token_1|>",
              "<|finetune_right_pad_id|>",
              "<|step_id|>",
              "<|start_header_id|>",
              "<|end_header_id|>",
              "<|eom_id|>",
              "<|eot_id|>",
              "<|python_tag|>",
              "<|image|>"};
    for (int i = 2; tokens.size() < 256; ++i) tokens.push_back(fmt::format("<|reserved_special_token_{}|>", i));
  }
  return tokens;
}

// Whose ranks these are by tokenizer_config.json; empty where it does not say.
std::string scheme_of(const TokenizerConfig& config, int64_t ranks) {
  const std::string tokenizer_class = config.tokenizer_class();
  if (tokenizer_class == "QWenTokenizer") return "qwen";
  // Llama 3 names the general class alone; what tells it is its first special token right behind its ranks.
  const JsonNode settings = config.settings();
  if (ranks != 128000 || !settings.has("added_tokens_decoder")) return {};
  const JsonNode added = settings.at("added_tokens_decoder");
  return added.has("128000") && added.at("128000").string_or("content", "") == "<|begin_of_text|>" ? "llama3" : "";
}

}  // namespace

TokenizerParts load_tiktoken(const std::string& path, const TokenizerConfig& config, const std::string& pattern) {
  TokenizerParts parts;
  parts.kind = "tiktoken";
  auto vocabulary = std::make_shared<Vocabulary>();
  read_ranks(path, *vocabulary);
  const int64_t ranks = vocabulary->size();
  parts.vocabulary = vocabulary;

  const std::string chosen = pattern.empty() ? scheme_of(config, ranks) : pattern;
  if (chosen.empty()) {
    const std::string tokenizer_class = config.tokenizer_class();
    throw Error(fmt::format("{}: tiktoken's ranks come without a pattern, and {}", path,
                            tokenizer_class.empty()
                                ? "no tokenizer_config.json beside it tells whose it is"
                                : fmt::format("tokenizer_class {} tells none that is known", quote(tokenizer_class))),
                "give --pattern gpt2, llama3, qwen or a regular expression");
  }
  const ByteLevelScheme scheme = find_byte_level_scheme(chosen);
  apply_byte_level_scheme(scheme, false, parts);
  parts.model = make_rank_bpe(vocabulary, 0);

  int64_t id = ranks;
  TokenAdder adder(parts);
  const auto special_tokens = published_special_tokens(scheme.name, ranks);
  for (const std::string& content : special_tokens) {
    AddedToken token;
    token.content = content;
    token.id = static_cast<int32_t>(id++);
    token.special = true;
    adder.add(std::move(token));
  }
  if (special_tokens.empty() && !scheme.name.empty())
    parts.warnings.push_back(fmt::format(
        "{}: has {} ranks, not the number that {} has; its special tokens are not added", path, ranks, scheme.name));
  // Qwen's and OpenAI's programs put nothing round a text; Meta's is told by its caller, and its models want BOS.
  if (scheme.name == "llama3" && !special_tokens.empty()) {
    parts.bos = static_cast<int32_t>(ranks);
    parts.eos = static_cast<int32_t>(ranks + 1);
    parts.before = {*parts.bos};
  } else if (!special_tokens.empty()) {
    parts.eos = static_cast<int32_t>(ranks);
  }
  parts.reads_special = scheme.name == "qwen";  // as QWenTokenizer does, and neither tiktoken's nor Meta's encode
  config.add_tokens(parts, TokenizerConfig::ListedIds::ids);
  show_added_tokens_as_bytes(parts);
  return parts;
}

}  // namespace lathe
