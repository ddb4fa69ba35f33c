// Vocabularies in two files: vocab.json and merges.txt, or encoder.json and vocab.bpe as GPT-2's were first called.
//
// Byte-level BPE as transformers' tokenizers written in Python run it. The files hold neither pattern nor special
// tokens: the class that tokenizer_config.json names decides (it is what the word "GPT2Tokenizer" stands for there), or
// --pattern. Without either it is GPT-2's, whose form this is; a warning says so.
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "formats/strict_json.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/byte_level_scheme.h"
#include "text/tokenizer/tokenizer_config.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

struct KnownClass {
  const char* name;
  const char* pattern;
  bool goes_round;                                 // a text stands between cls_token and sep_token
  const char *begin, *end, *unknown, *pad, *mask;  // the usual special tokens, "" for none
};
constexpr const char* kEndOfText = "<|endoftext|>";
constexpr std::array kKnownClasses = {
    KnownClass{"GPT2Tokenizer", "gpt2", false, kEndOfText, kEndOfText, kEndOfText, "", ""},
    KnownClass{"CodeGenTokenizer", "gpt2", false, kEndOfText, kEndOfText, kEndOfText, "", ""},
    KnownClass{"Qwen2Tokenizer", "qwen", false, "", kEndOfText, kEndOfText, kEndOfText, ""},
    KnownClass{"RobertaTokenizer", "gpt2", true, "<s>", "</s>", "<unk>", "<pad>", "<mask>"},
    KnownClass{"LongformerTokenizer", "gpt2", true, "<s>", "</s>", "<unk>", "<pad>", "<mask>"},
    KnownClass{"BartTokenizer", "gpt2", true, "<s>", "</s>", "<unk>", "<pad>", "<mask>"},
    KnownClass{"LEDTokenizer", "gpt2", true, "<s>", "</s>", "<unk>", "<pad>", "<mask>"},
    KnownClass{"DebertaTokenizer", "gpt2", true, "[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]"}};

// The special tokens that a class has where no file says otherwise. The mask takes the space before it.
std::vector<NamedToken> usual_tokens(const KnownClass& known) {
  std::vector<NamedToken> usual;
  const auto add = [&](const char* name, const char* content, bool lstrip = false) {
    AddedToken token;
    token.content = content;
    token.special = true;
    token.lstrip = lstrip;
    if (content[0]) usual.emplace_back(name, std::move(token));
  };
  add("bos_token", known.begin), add("eos_token", known.end), add("unk_token", known.unknown);
  if (known.goes_round) add("sep_token", known.end);
  add("pad_token", known.pad);
  if (known.goes_round) add("cls_token", known.begin);
  add("mask_token", known.mask, true);
  return usual;
}

const KnownClass& class_of(const std::string& path, const TokenizerConfig& config, const std::string& pattern,
                           TokenizerParts& parts) {
  const std::string name = config.tokenizer_class();
  for (const KnownClass& known : kKnownClasses)
    if (name == known.name) return known;
  if (!name.empty() && pattern.empty())
    throw Error(fmt::format("{}: how tokenizer_class {} cuts text is not known", path, quote(name)),
                "give --pattern gpt2, llama3, qwen or a regular expression");
  if (pattern.empty() && fs::path(path).filename() != "vocab.bpe")
    parts.warnings.push_back(path + ": no tokenizer_config.json names a tokenizer_class; text is cut GPT-2's way");
  return kKnownClasses[0];
}

std::shared_ptr<Vocabulary> read_vocabulary(const std::string& path) {
  const nlohmann::json document = read_strict_json(path);
  if (!document.is_object()) JsonNode(document, path).fail("expected an object: tokens and their ids");
  auto vocabulary = std::make_shared<Vocabulary>();
  for (const auto& [text, id] : document.items())
    vocabulary->add(text, JsonNode(id, path + ": " + quote(text)).integer());
  return vocabulary;
}

MergeList read_merges(const std::string& path) {
  const auto file = MappedFile::open(path);
  std::string_view text{reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
  MergeList merges;
  for (bool first = true; !text.empty(); first = false) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (first && line.starts_with("#version"))) continue;
    merges.add_line(line);
  }
  return merges;
}

// The two files, whichever of them is named.
std::pair<fs::path, fs::path> both_files(const fs::path& path) {
  const fs::path folder = path.parent_path();
  const std::string name = path.filename().string();
  const bool first_names = name == "vocab.bpe" || name == "encoder.json";
  std::pair<fs::path, fs::path> files{folder / (first_names ? "encoder.json" : "vocab.json"),
                                      folder / (first_names ? "vocab.bpe" : "merges.txt")};
  for (const fs::path& file : {files.first, files.second})
    if (!fs::exists(file))
      throw Error(fmt::format("{}: {} is not beside it", path.string(), file.filename().string()),
                  "such a vocabulary is vocab.json and merges.txt, or encoder.json and vocab.bpe");
  return files;
}

}  // namespace

TokenizerParts load_vocabulary_and_merges(const std::string& path, const TokenizerConfig& config,
                                          const std::string& pattern) {
  const auto [vocabulary_path, merges_path] = both_files(path);
  TokenizerParts parts;
  parts.kind = vocabulary_path.filename().string() + " and " + merges_path.filename().string();
  const KnownClass& known = class_of(path, config, pattern, parts);
  const auto vocabulary = read_vocabulary(vocabulary_path.string());
  parts.vocabulary = vocabulary;

  std::vector<NamedToken> usual = usual_tokens(known);
  if (config.tokenizer_class().empty())  // nobody named the class: what the vocabulary lacks is not missed
    std::erase_if(usual, [&](const NamedToken& token) { return vocabulary->find(token.second.content) < 0; });
  config.add_tokens(parts, TokenizerConfig::ListedIds::order, std::move(usual));

  BpeOptions options;
  options.unknown = parts.find(config.named("unk_token").value_or(known.unknown));
  parts.model = std::make_unique<Bpe>(vocabulary, read_merges(merges_path.string()), std::move(options));
  const bool prefix = config.settings().boolean_or("add_prefix_space", false);
  apply_byte_level_scheme(find_byte_level_scheme(pattern.empty() ? known.pattern : pattern), prefix, parts);
  show_added_tokens_as_bytes(parts);

  if (known.goes_round) {
    parts.before = {parts.find(parts.named["cls_token"])};
    parts.after = {parts.find(parts.named["sep_token"])};
  }
  return parts;
}

}  // namespace lathe
