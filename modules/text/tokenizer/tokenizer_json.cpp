// tokenizer.json of the Hugging Face library `tokenizers`, version 1.0 of its format.
//
// The vocabulary and the merges, nearly all of the file, go from the parser straight into their tables; only the rest
// becomes a JSON document. That makes loading some five times faster than through nlohmann's tree.
//
// `truncation` and `padding` are read and not applied, with a warning: they are settings for a batch that `tokenizers`
// keeps in the file, transformers takes them away with every call that does not ask for them, and a prompt cut without
// a word is no prompt.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "formats/strict_json.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/post_processor.h"
#include "text/tokenizer/tokenizer_config.h"
#include "text/tokenizer/tokenizer_parts.h"
#include "text/tokenizer/unigram.h"
#include "text/tokenizer/word_piece.h"

namespace lathe {
namespace {

using Json = nlohmann::json;

// Builds the document but for model.vocab and model.merges.
class FileReader : public nlohmann::json_sax<Json> {
 public:
  FileReader(std::string path, std::string_view text) : path_(std::move(path)), text_(text) {}

  Json document;
  std::shared_ptr<Vocabulary> vocabulary = std::make_shared<Vocabulary>();
  MergeList merges;
  std::vector<double> scores;                       // where model.vocab is a list of tokens with their scores
  bool has_vocabulary = false, has_scores = false;  // model.vocab is an object, is a list
  bool has_merges = false;

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(number_integer_t v) override { return number(v); }
  bool number_unsigned(number_unsigned_t v) override {
    return v > INT64_MAX && mode_ == Mode::vocabulary ? fail("an id is out of range") : number(v);
  }
  bool number_float(number_float_t v, const string_t&) override { return mode_ == Mode::scored ? score(v) : value(v); }
  bool binary(binary_t&) override { return fail("unexpected binary data"); }
  bool string(string_t& v) override {
    if (mode_ == Mode::merges) {
      if (!v.starts_with("#version")) merges.add_line(v);
      return true;
    }
    if (mode_ == Mode::merge_pair) {
      if (pair_.size() == 2) return fail("a merge has more than two tokens");
      pair_.push_back(std::move(v));
      return true;
    }
    if (mode_ == Mode::scored) {
      if (!pair_.empty()) return fail("vocab: a score is no number");
      pair_.push_back(std::move(v));
      return true;
    }
    return value(std::move(v));
  }
  bool key(string_t& v) override {
    key_ = std::move(v);
    return true;
  }
  bool start_object(std::size_t) override {
    if (at_model_member("vocab")) {
      mode_ = Mode::vocabulary;
      has_vocabulary = true;
      return true;
    }
    return open(Json::object());
  }
  bool end_object() override {
    if (mode_ == Mode::vocabulary) {
      mode_ = Mode::document;
      return true;
    }
    stack_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override {
    if (at_model_member("merges")) {
      mode_ = Mode::merges;
      has_merges = true;
      return true;
    }
    if (at_model_member("vocab")) {
      mode_ = Mode::scores;
      has_scores = true;
      return true;
    }
    if (mode_ == Mode::merges || mode_ == Mode::scores) {
      mode_ = mode_ == Mode::merges ? Mode::merge_pair : Mode::scored;
      pair_.clear();
      return true;
    }
    return open(Json::array());
  }
  bool end_array() override {
    if (mode_ == Mode::merge_pair) {
      if (pair_.size() != 2) return fail("a merge has not two tokens");
      merges.add(pair_[0], pair_[1]);
      mode_ = Mode::merges;
      return true;
    }
    if (mode_ == Mode::scored) {
      if (pair_.size() != 2) return fail("vocab: expected a token and its score");
      mode_ = Mode::scores;
      return true;
    }
    if (mode_ == Mode::merges || mode_ == Mode::scores) {
      mode_ = Mode::document;
      return true;
    }
    stack_.pop_back();
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw Error(path_ + ": " + parse_problem(text_, position));
  }

 private:
  enum class Mode { document, vocabulary, scores, scored, merges, merge_pair };
  static constexpr size_t kMaxDepth = 64;

  bool fail(const char* message) const { throw Error(fmt::format("{}: model: {}", path_, message)); }

  bool at_model_member(const char* name) const {
    return mode_ == Mode::document && stack_.size() == 2 && in_model_ && key_ == name;
  }
  bool number(int64_t v) {
    if (mode_ == Mode::scored) return score(static_cast<double>(v));
    if (mode_ != Mode::vocabulary) return value(v);
    vocabulary->add(key_, v);
    return true;
  }
  bool score(double v) {
    if (pair_.size() != 1) return fail("vocab: expected a token and its score");
    vocabulary->add(pair_[0], vocabulary->size());
    scores.push_back(v);
    pair_.emplace_back();
    return true;
  }
  template <class T>
  bool value(T&& v) {
    if (mode_ != Mode::document)
      fail(mode_ == Mode::vocabulary                        ? "vocab: an id is no integer"
           : mode_ == Mode::scores || mode_ == Mode::scored ? "vocab: expected tokens with their scores"
                                                            : "merges: a token is no string");
    place(Json(std::forward<T>(v)));
    return true;
  }
  bool open(Json container) {
    if (mode_ != Mode::document) fail("vocab or merges: a value is a container");
    if (stack_.size() == kMaxDepth) throw Error(fmt::format("{}: nested deeper than {}", path_, kMaxDepth));
    if (stack_.size() == 1) in_model_ = key_ == "model" && stack_[0]->is_object();
    stack_.push_back(place(std::move(container)));
    return true;
  }
  Json* place(Json v) {
    if (stack_.empty()) {
      document = std::move(v);
      return &document;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    return &(parent[key_] = std::move(v));
  }

  std::string path_, key_;
  std::string_view text_;
  std::vector<Json*> stack_;  // the open containers
  std::vector<std::string> pair_;
  Mode mode_ = Mode::document;
  bool in_model_ = false;
};

std::unique_ptr<TokenModel> make_bpe(const JsonNode& node, const FileReader& file, TokenizerParts& parts) {
  if (!file.has_vocabulary) node.fail("vocab: expected an object");
  if (!file.has_merges) node.at("merges").fail("expected an array");
  if (node.has("dropout") && (!node.at("dropout").value().is_number() || node.at("dropout").number() != 0))
    node.at("dropout").fail("BPE dropout is not supported: it makes the ids random");
  BpeOptions options;
  if (node.has("unk_token")) {
    const std::string unknown = node.at("unk_token").string();
    options.unknown = parts.vocabulary->find(unknown);
    if (options.unknown < 0)
      parts.warnings.push_back(fmt::format("{}: unk_token {} is not in the vocabulary; unknown characters vanish",
                                           node.where(), quote(unknown)));
  }
  options.fuse_unknown = node.boolean_or("fuse_unk", false);
  options.byte_fallback = node.boolean_or("byte_fallback", false);
  options.ignore_merges = node.boolean_or("ignore_merges", false);
  options.continuing_subword_prefix = node.string_or("continuing_subword_prefix", "");
  options.end_of_word_suffix = node.string_or("end_of_word_suffix", "");
  return std::make_unique<Bpe>(parts.vocabulary, file.merges, std::move(options));
}

// The unknown token of a model that cannot do without.
int32_t required_unknown(const JsonNode& node, const char* usual, const TokenizerParts& parts) {
  const std::string unknown = node.string_or("unk_token", usual);
  const int32_t id = parts.vocabulary->find(unknown);
  if (id < 0) node.fail(fmt::format("unk_token {} is not in the vocabulary", quote(unknown)));
  return id;
}

std::unique_ptr<TokenModel> make_word_piece(const JsonNode& node, const TokenizerParts& parts) {
  const int64_t longest = node.has("max_input_chars_per_word") ? node.at("max_input_chars_per_word").integer() : 100;
  return std::make_unique<WordPiece>(parts.vocabulary, required_unknown(node, "[UNK]", parts),
                                     node.string_or("continuing_subword_prefix", "##"), longest);
}

std::unique_ptr<TokenModel> make_unigram(const JsonNode& node, FileReader& file, const TokenizerParts& parts) {
  if (!file.has_scores) node.fail("vocab: expected an array of tokens with their scores");
  if (file.scores.empty()) node.fail("vocab is empty");
  UnigramOptions options;
  if (node.has("unk_id")) {
    const int64_t unknown = node.at("unk_id").integer();
    if (!parts.vocabulary->contains(unknown))
      node.fail(fmt::format("unk_id is {}, the vocabulary has {} tokens", unknown, parts.vocabulary->size()));
    options.unknown = static_cast<int32_t>(unknown);
  }
  options.byte_fallback = node.boolean_or("byte_fallback", false);
  options.unknown_score = *std::min_element(file.scores.begin(), file.scores.end()) - Unigram::kUnknownPenalty;
  std::vector<int32_t> tokens(file.scores.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  return std::make_unique<Unigram>(parts.vocabulary, std::move(file.scores), tokens, options);
}

std::unique_ptr<TokenModel> make_model(const JsonNode& node, FileReader& file, TokenizerParts& parts) {
  // Files from before the library wrote the type: what they hold tells them apart.
  const char* implied = file.has_merges ? "BPE" : file.has_scores ? "Unigram" : "WordPiece";
  const std::string type = node.string_or("type", implied);
  parts.kind = "tokenizer.json, " + type;
  if (type == "BPE") return make_bpe(node, file, parts);
  if (type == "Unigram") return make_unigram(node, file, parts);
  if (type == "WordPiece" || type == "WordLevel") {
    if (!file.has_vocabulary) node.fail("vocab: expected an object");
    if (type == "WordPiece") return make_word_piece(node, parts);
    return std::make_unique<WordLevel>(parts.vocabulary, required_unknown(node, "<unk>", parts));
  }
  node.fail(fmt::format("model type {} is not supported", quote(type)),
            "supported: BPE, Unigram, WordPiece, WordLevel");
}

void read_added_tokens(const JsonNode& list, TokenizerParts& parts) {
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonNode node = list.at(i);
    AddedToken token;
    token.content = node.at("content").string();
    const int64_t id = node.at("id").integer();
    if (id < 0 || id >= Vocabulary::kMaxSize) node.fail(fmt::format("id {} is out of range", id));
    token.id = static_cast<int32_t>(id);
    if (token.content.empty()) continue;
    // The vocabulary's id wins, as in the reference.
    if (const int32_t known = parts.vocabulary->find(token.content); known >= 0 && known != token.id) {
      parts.warnings.push_back(fmt::format("{}: token {} has id {}, in the vocabulary {}; the latter counts",
                                           node.where(), quote(token.content), id, known));
      token.id = known;
    }
    token.special = node.boolean_or("special", false);
    token.single_word = node.boolean_or("single_word", false);
    token.lstrip = node.boolean_or("lstrip", false);
    token.rstrip = node.boolean_or("rstrip", false);
    token.normalized = node.boolean_or("normalized", !token.special);
    parts.added.push_back(std::move(token));
  }
}

void warn_of_settings(const JsonNode& document, TokenizerParts& parts) {
  for (const char* setting : {"truncation", "padding"})
    if (document.has(setting))
      parts.warnings.push_back(
          fmt::format("{}.{} is not applied: it is a setting for a batch, which transformers drops "
                      "too",
                      document.where(), setting));
}

// A member that may be absent, which is the same as null.
JsonNode member(const JsonNode& document, const char* name) {
  static const Json null;
  return document.value().contains(name) ? document.at(name) : JsonNode(null, document.where() + "." + name);
}

}  // namespace

TokenizerParts load_tokenizer_json(const std::string& path, const TokenizerConfig& config) {
  const auto mapped = MappedFile::open(path);
  const auto* begin = reinterpret_cast<const char*>(mapped->bytes().data());
  FileReader file(path, {begin, mapped->bytes().size()});
  try {
    Json::sax_parse(begin, begin + mapped->bytes().size(), &file);
  } catch (const Error& error) {
    const std::string message = error.what();
    throw Error(message.starts_with(path) ? message : path + ": model: " + message, error.hint());
  }
  const JsonNode document(file.document, path);
  if (!document.value().is_object()) document.fail("expected an object");
  if (!document.has("model"))
    document.fail("'model' is missing", "expected a tokenizer.json of the library 'tokenizers'");

  TokenizerParts parts;
  parts.vocabulary = file.vocabulary;
  warn_of_settings(document, parts);
  if (document.has("added_tokens")) read_added_tokens(document.at("added_tokens"), parts);
  try {
    parts.normalizer = make_normalizer(member(document, "normalizer"));
    parts.pre_tokenizer = make_pre_tokenizer(member(document, "pre_tokenizer"));
    parts.model = make_model(document.at("model"), file, parts);
    parts.decoder = make_decoder(member(document, "decoder"));
    SpecialTokensAround around = read_post_processor(member(document, "post_processor"));
    parts.before = std::move(around.before);
    parts.after = std::move(around.after);
  } catch (const Error& error) {
    const std::string message = error.what();
    throw Error(message.starts_with(path) ? message : path + ": " + message, error.hint());
  } catch (const Json::exception& error) {
    throw Error(fmt::format("{}: {}", path, error.what()));
  }
  config.add_tokens(parts, TokenizerConfig::ListedIds::order);
  return parts;
}

}  // namespace lathe
