// Vocabularies inside GGUF files (specification: ggml repository, docs/gguf.md, "Tokenizer"), as llama.cpp runs them:
// kind `gpt2` (byte-level BPE), `llama` (sentencepiece BPE by score), `gemma4` (BPE by rank over escaped spaces),
// `bert` (WordPiece) and `t5` (unigram). The surprising one: WordPiece is spelled with U+2581 before words, not ##
// within them.
#include <algorithm>
#include <limits>

#include "formats/gguf.h"
#include "formats/quote.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/byte_level_scheme.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/gguf_vocabulary.h"
#include "text/tokenizer/score_bpe.h"
#include "text/tokenizer/tokenizer_parts.h"
#include "text/tokenizer/unigram.h"
#include "text/tokenizer/word_piece.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

// The array under `key`, by reference: a vocabulary is too large to copy for nothing. Null when absent.
template <class T>
const std::vector<T>* array(const GgufFile& file, const char* key) {
  auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return nullptr;
  const auto* values = std::get_if<std::vector<T>>(&found->second);
  check(values != nullptr, file.path().c_str(), "{}: expected an array of another type", key);
  return values;
}

template <class T>
const std::vector<T>& required_array(const GgufFile& file, const char* key) {
  const auto* values = array<T>(file, key);
  check(values != nullptr, file.path().c_str(), "{} is missing", key);
  return *values;
}

class GgufVocabulary {
 public:
  explicit GgufVocabulary(const std::string& path) : file_(*(keep_ = GgufFile::open(path))) {}

  TokenizerParts load() {
    const auto kind = file_.get<std::string>("tokenizer.ggml.model");
    if (!kind)
      throw Error(file_.path() + ": tokenizer.ggml.model is missing: this file has no vocabulary",
                  "ids given with --tokens need no tokenizer");
    parts_.kind = "GGUF, " + *kind;
    parts_.reads_special = false;
    const Kind* known =
        std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return *kind == k.name; });
    if (known == std::end(kKinds))
      throw Error(fmt::format("{}: tokenizer.ggml.model {} is not supported", file_.path(), quote(*kind)),
                  "supported: gpt2, llama, gemma4, bert, t5");
    read_tokens();
    read_special_ids(*known);
    (this->*known->build)();
    read_chat_templates();
    return std::move(parts_);
  }

 private:
  struct Kind {
    const char* name;
    void (GgufVocabulary::*build)();
    int32_t bos, eos, unknown;  // where the file names none
  };
  static const Kind kKinds[5];

  void read_tokens() {
    const auto& tokens = required_array<std::string>(file_, "tokenizer.ggml.tokens");
    const auto* types = array<int64_t>(file_, "tokenizer.ggml.token_type");
    check(!types || types->size() == tokens.size(), file_.path().c_str(),
          "tokenizer.ggml.token_type has {} elements, tokenizer.ggml.tokens {}", types ? types->size() : 0,
          tokens.size());
    auto vocabulary = std::make_shared<Vocabulary>();
    size_t bytes = 0;
    for (const auto& token : tokens) bytes += token.size();
    vocabulary->reserve(tokens.size(), bytes);
    for (size_t id = 0; id < tokens.size(); ++id) {
      check(!first_invalid_utf8(tokens[id]), file_.path().c_str(), "tokenizer.ggml.tokens: token {} is not valid UTF-8",
            id);
      vocabulary->add(tokens[id].empty() ? fmt::format("[EMPTY_{}]", id) : tokens[id], static_cast<int64_t>(id));
      const int64_t type = types ? (*types)[id] : kNormal;
      if (type != kUnknown && type != kControl && type != kUserDefined) continue;
      AddedToken added;
      added.content = tokens[id];
      added.id = static_cast<int32_t>(id);
      added.special = type != kUserDefined;
      parts_.added.push_back(std::move(added));
    }
    parts_.vocabulary = std::move(vocabulary);
  }

  std::optional<int32_t> special_id(const char* name) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    const auto id = file_.get<int64_t>(key);
    if (!id) return std::nullopt;
    if (parts_.vocabulary->contains(*id)) return static_cast<int32_t>(*id);
    parts_.warnings.push_back(
        fmt::format("{}: {} is {}, outside the vocabulary, and is not used", file_.path(), key, *id));
    return std::nullopt;
  }

  void read_special_ids(const Kind& kind) {
    auto read = [&](std::initializer_list<const char*> names, int32_t otherwise) -> std::optional<int32_t> {
      for (const char* name : names)
        if (auto id = special_id(name)) return id;
      if (parts_.vocabulary->contains(otherwise)) return otherwise;
      return std::nullopt;
    };
    parts_.bos = read({"bos", "cls"}, kind.bos);
    parts_.eos = read({"eos"}, kind.eos);
    unknown_ = read({"unknown"}, kind.unknown).value_or(Vocabulary::kNone);
    for (const auto& [name, key] : {std::pair{"unk_token", "unknown"},
                                    {"sep_token", "separator"},
                                    {"pad_token", "padding"},
                                    {"cls_token", "cls"},
                                    {"mask_token", "mask"}})
      if (const auto id = file_.get<int64_t>(fmt::format("tokenizer.ggml.{}_token_id", key)))
        if (parts_.vocabulary->contains(*id)) parts_.named[name] = parts_.vocabulary->text(*id);
    for (const char* name : {"eot", "eom"})
      if (auto id = special_id(name)) parts_.end_of_turn.push_back(*id);
  }

  void add_around(bool bos_by_default, bool eos_by_default = false) {
    const bool bos = file_.get<bool>("tokenizer.ggml.add_bos_token").value_or(bos_by_default);
    const bool eos = file_.get<bool>("tokenizer.ggml.add_eos_token").value_or(eos_by_default);
    if (bos && parts_.bos) parts_.before = {*parts_.bos};
    if (eos && parts_.eos) parts_.after = {*parts_.eos};
  }

  MergeList read_merges() const {
    MergeList merges;
    for (const std::string& line : required_array<std::string>(file_, "tokenizer.ggml.merges")) {
      const size_t space = line.find(' ', 1);  // a token may begin with a space
      check(space != std::string::npos, file_.path().c_str(),
            "tokenizer.ggml.merges: rule {} is {}, expected two tokens with a space between", merges.size() + 1,
            quote(line));
      merges.add(std::string_view(line).substr(0, space), std::string_view(line).substr(space + 1));
    }
    return merges;
  }

  void build_byte_level() {
    const auto name = file_.get<std::string>("tokenizer.ggml.pre");
    const GgufPreTokenizer* pre = find_gguf_pre_tokenizer(name ? *name : "default");
    if (!name)
      parts_.warnings.push_back(file_.path() +
                                ": tokenizer.ggml.pre is missing; text is split the default way, which may "
                                "not be the model's");
    if (!pre) {
      parts_.warnings.push_back(
          fmt::format("{}: tokenizer.ggml.pre {} is not known; text is split the default way, which "
                      "may not be the model's",
                      file_.path(), quote(*name)));
      pre = find_gguf_pre_tokenizer("default");
    }
    if (pre->escaped) return build_escaped();
    parts_.pre_tokenizer = make_gguf_pre_tokenizer(*pre);
    BpeOptions options;
    options.ignore_merges = pre->ignore_merges;
    options.skip_foreign_merges = true;
    parts_.model = std::make_unique<Bpe>(parts_.vocabulary, read_merges(), std::move(options));
    parts_.decoder = make_byte_level_decoder();
    show_added_tokens_as_bytes(parts_);  // llama.cpp gives the text of user-defined tokens as it is
    add_around(pre->add_bos);
  }

  void build_scored() {
    const auto& scores = required_array<double>(file_, "tokenizer.ggml.scores");
    const bool prefix = file_.get<bool>("tokenizer.ggml.add_space_prefix").value_or(true);
    parts_.normalizer = make_space_escaper(prefix);
    parts_.model =
        std::make_unique<ScoreBpe>(parts_.vocabulary, std::vector<float>(scores.begin(), scores.end()), unknown_);
    build_escaped_decoder(prefix);
    add_around(true);
  }

  void build_escaped() {
    const bool prefix = file_.get<bool>("tokenizer.ggml.add_space_prefix").value_or(false);
    parts_.normalizer = make_space_escaper(prefix);
    parts_.pre_tokenizer = make_split(Regex("[^\\n]+|[\\n]+"), SplitBehavior::isolated);
    BpeOptions options;
    options.unknown = unknown_;
    options.byte_fallback = true;
    options.skip_foreign_merges = true;
    parts_.model = std::make_unique<Bpe>(parts_.vocabulary, read_merges(), std::move(options));
    build_escaped_decoder(prefix);
    add_around(true);
  }

  void build_word_piece() {
    const bool lower = file_.get<bool>("tokenizer.ggml.normalizer.lowercase").value_or(true);
    const bool strip = file_.get<bool>("tokenizer.ggml.normalizer.strip_accents").value_or(lower);
    parts_.normalizer = make_word_normalizer(lower, strip);
    parts_.pre_tokenizer = make_word_splitter();
    check(unknown_ >= 0, file_.path().c_str(), "tokenizer.ggml.unknown_token_id is missing");
    parts_.model =
        std::make_unique<WordPiece>(parts_.vocabulary, unknown_, "", std::numeric_limits<int64_t>::max(), kSpaceSymbol);
    build_escaped_decoder(false);
    // Always both, whatever add_bos_token says. The misspelling is the format's.
    auto separator = special_id("seperator");
    if (!separator) separator = special_id("separator");
    if (!separator && parts_.vocabulary->contains(102)) separator = 102;
    if (parts_.bos) parts_.before = {*parts_.bos};
    if (separator) parts_.after = {*separator};
  }

  void build_unigram() {
    std::vector<double> scores = required_array<double>(file_, "tokenizer.ggml.scores");
    const auto* types = array<int64_t>(file_, "tokenizer.ggml.token_type");
    check(scores.size() == static_cast<size_t>(parts_.vocabulary->size()), file_.path().c_str(),
          "tokenizer.ggml.scores has {} elements, tokenizer.ggml.tokens {}", scores.size(), parts_.vocabulary->size());
    std::vector<int32_t> tokens;
    double lowest = std::numeric_limits<double>::infinity();
    for (size_t id = 0; id < scores.size(); ++id) {
      const int64_t type = types ? (*types)[id] : kNormal;
      if (type == kNormal) lowest = std::min(lowest, scores[id]);
      if (type == kUserDefined) scores[id] = 0;  // as good as certain: the scores are logarithms
      if (type == kNormal || type == kUserDefined || type == kUnused) tokens.push_back(static_cast<int32_t>(id));
    }
    check(lowest < std::numeric_limits<double>::infinity(), file_.path().c_str(), "no token is a normal one");
    UnigramOptions options;
    options.unknown = unknown_;
    options.unknown_score = static_cast<float>(lowest) - static_cast<float>(Unigram::kUnknownPenalty);  // in float32
    const bool prefix = file_.get<bool>("tokenizer.ggml.add_space_prefix").value_or(false);
    parts_.normalizer = make_unigram_normalizer(
        read_charsmap(), prefix, file_.get<bool>("tokenizer.ggml.remove_extra_whitespaces").value_or(false));
    parts_.model = std::make_unique<Unigram>(parts_.vocabulary, std::move(scores), tokens, options);
    build_escaped_decoder(prefix);
    add_around(false, true);
  }

  Charsmap read_charsmap() const {
    const auto* numbers = array<int64_t>(file_, "tokenizer.ggml.precompiled_charsmap");
    std::string bytes;
    if (numbers)
      for (int64_t number : *numbers) bytes += static_cast<char>(number);  // int8 or uint8, the same bytes
    return Charsmap(bytes);
  }

  void build_escaped_decoder(bool prefix) {
    std::vector<std::unique_ptr<Decoder>> stages;
    stages.push_back(make_literal_replacer(kSpaceSymbol, " "));
    stages.push_back(make_byte_fallback_decoder(BrokenBytes::maximal_subpart));
    stages.push_back(make_fuse());
    if (prefix) stages.push_back(make_strip(" ", 1, 0));
    parts_.decoder = make_decoder_sequence(std::move(stages));
  }

  void read_chat_templates() {
    constexpr std::string_view kPrefix = "tokenizer.chat_template";
    for (auto it = file_.metadata().lower_bound(kPrefix); it != file_.metadata().end(); ++it) {
      const std::string_view key = it->first;
      if (key.substr(0, kPrefix.size()) != kPrefix) break;
      const auto* text = std::get_if<std::string>(&it->second);
      if (!text) continue;  // tokenizer.chat_templates: the list of the names
      if (key == kPrefix) {
        parts_.chat_templates["default"] = *text;
      } else if (key[kPrefix.size()] == '.') {
        parts_.chat_templates[std::string(key.substr(kPrefix.size() + 1))] = *text;
      }
    }
  }

  std::shared_ptr<const GgufFile> keep_;
  const GgufFile& file_;
  TokenizerParts parts_;
  int32_t unknown_ = Vocabulary::kNone;
};

const GgufVocabulary::Kind GgufVocabulary::kKinds[] = {{"gpt2", &GgufVocabulary::build_byte_level, -1, -1, -1},
                                                       {"llama", &GgufVocabulary::build_scored, 1, 2, 0},
                                                       {"gemma4", &GgufVocabulary::build_escaped, -1, -1, -1},
                                                       {"bert", &GgufVocabulary::build_word_piece, 101, -1, 100},
                                                       {"t5", &GgufVocabulary::build_unigram, -1, 1, 2}};

}  // namespace

TokenizerParts load_gguf_vocabulary(const std::string& path) {
  try {
    return GgufVocabulary(path).load();
  } catch (const Error& error) {
    const std::string message = error.what();
    throw Error(message.starts_with(path) ? message : path + ": " + message, error.hint());
  }
}

}  // namespace lathe
