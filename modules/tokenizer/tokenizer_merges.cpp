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
#include "tokenizer/bpe.h"
#include "tokenizer/byte_level_scheme.h"
#include "tokenizer/tokenizer_config.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

struct KnownClass {
  const char* name;
  const char* pattern;
  const char *begin, *end;  // the special tokens round a text, "" for none
  const char *unknown, *pad, *mask;
};
constexpr const char* kEndOfText = "<|endoftext|>";
constexpr std::array kKnownClasses = {
    KnownClass{"GPT2Tokenizer", "gpt2", "", "", kEndOfText, "", ""},
    KnownClass{"CodeGenTokenizer", "gpt2", "", "", kEndOfText, "", ""},
    KnownClass{"Qwen2Tokenizer", "qwen", "", "", kEndOfText, "", ""},
    KnownClass{"RobertaTokenizer", "gpt2", "<s>", "</s>", "<unk>", "<pad>", "<mask>"},
    KnownClass{"LongformerTokenizer", "gpt2", "<s>", "</s>", "<unk>", "<pad>", "<mask>"},
    KnownClass{"BartTokenizer", "gpt2", "<s>", "</s>", "<unk>", "<pad>", "<mask>"},
    KnownClass{"LEDTokenizer", "gpt2", "<s>", "</s>", "<unk>", "<pad>", "<mask>"},
    KnownClass{"DebertaTokenizer", "gpt2", "[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]"}};

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

  TokenAdder adder(parts);
  for (const char* content : {known.begin, known.end, known.unknown, known.pad}) adder.add_special(content);
  adder.add_special(known.mask, true);  // takes the space before it, as in transformers
  config.add_tokens(parts);

  BpeOptions options;
  options.unknown = parts.find(config.named("unk_token").value_or(known.unknown));
  parts.model = std::make_unique<Bpe>(vocabulary, read_merges(merges_path.string()), std::move(options));
  const bool prefix = config.settings().boolean_or("add_prefix_space", false);
  apply_byte_level_scheme(find_byte_level_scheme(pattern.empty() ? known.pattern : pattern), prefix, parts);
  show_added_tokens_as_bytes(parts);

  const auto id_of = [&](const char* content) { return content[0] ? parts.find(content) : Vocabulary::kNone; };
  if (const int32_t id = id_of(known.begin); id >= 0) parts.before = {id};
  if (const int32_t id = id_of(known.end); id >= 0) parts.after = {id};
  if (!parts.before.empty()) parts.bos = parts.before[0];
  if (const int32_t id = id_of(known.end[0] ? known.end : known.unknown); id >= 0) parts.eos = id;
  return parts;
}

}  // namespace lathe
