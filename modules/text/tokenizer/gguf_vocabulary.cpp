// See gguf_vocabulary.h. A GGUF file does not say how text is cut, it names a pre-tokeniser that llama.cpp knows. Which
// of these a vocabulary has is found by what it does: the first whose pieces of a sample are the vocabulary's own. A
// table of known models would have to grow with every model that is published.
#include "text/tokenizer/gguf_vocabulary.h"

#include <algorithm>
#include <filesystem>

#include "formats/quote.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_parts.h"

namespace lathe {
namespace {

constexpr const char* kScripts =
    "\xC3\xA9migr\xC3\xA9 \xC3\x9Cn\xC3\xAF\x63ode \xE4\xBD\xA0\xE5\xA5\xBD\xE4\xB8\x96\xE7\x95\x8C\xE3\x80\x82 "
    "\xE3\x81\x93\xE3\x82\x93\xE3\x81\xAB\xE3\x81\xA1\xE3\x81\xAF \xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4 "
    "\xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8\xE0\xA5\x8D\xE0\xA4\xA6\xE0\xA5\x80 \xF0\x9F\x98\x80\xF0\x9F\x91\x8D";
// Where published pre-tokenisers differ: contractions, digits, runs of spaces and lines, punctuation, case, scripts.
const char* const kSamples[] = {
    "Hello world's WE'LL it'S I'm they'd   three spaces\n\n\nlines \t tab\r\n  end   ",
    "1 12 123 1234 1234567 x1y22 3.14159 $100 1,000,000 v2.0 \xC2\xB2 \xC2\xBD \xD9\xA1\xD9\xA2\xD9\xA3",
    "!?... (a)[b]{c} a+b=c <tag/> _under_ camelCase HTTPServer 'quoted' \"x\" //comment\n#include <x>\n",
    kScripts,
    "The quick brown fox jumps over the lazy dog; 42 times, isn't it?",
};

std::vector<std::string> pieces_of(const PreTokenizer* pre_tokenizer, std::string_view text) {
  std::vector<std::string> pieces;
  const auto keep = [&](Piece piece) { pieces.emplace_back(piece.text); };
  if (pre_tokenizer) pre_tokenizer->split({text, true}, keep);
  return pieces;
}

// The name of the pre-tokeniser that does what this one does; empty where there is none.
std::string pre_tokenizer_name(const PreTokenizer* own, bool ignore_merges) {
  for (const GgufPreTokenizer& known : gguf_pre_tokenizers()) {
    if (known.escaped || known.ignore_merges != ignore_merges) continue;
    const auto machine = make_gguf_pre_tokenizer(known);
    const auto same = [&](const char* text) { return pieces_of(machine.get(), text) == pieces_of(own, text); };
    if (std::all_of(std::begin(kSamples), std::end(kSamples), same)) return known.names.front();
  }
  return {};
}

bool is_byte_token(std::string_view text) { return text.size() == 6 && text.starts_with("<0x") && text[5] == '>'; }

class Writer {
 public:
  Writer(const Tokenizer& tokenizer, int64_t rows)
      : tokenizer_(tokenizer), parts_(tokenizer.parts()), rows_(std::max(rows, tokenizer.vocab_size())) {}

  WrittenVocabulary write() {
    const std::optional<PublishedModel> model = parts_.model->publish();
    if (!model) return without("a vocabulary of the kind \"" + parts_.kind + "\" is not written to GGUF");
    const bool scored = !model->scores.empty() || model->byte_fallback;
    put("tokenizer.ggml.model", std::string(scored ? "llama" : "gpt2"));
    if (scored) {
      put("tokenizer.ggml.pre", std::string("default"));
    } else {
      const std::string name = pre_tokenizer_name(parts_.pre_tokenizer.get(), model->ignore_merges);
      if (name.empty())
        return without("no pre-tokeniser that GGUF files name cuts text as this vocabulary does, so it is not written");
      put("tokenizer.ggml.pre", name);
    }
    put_tokens(*model, scored);
    if (scored) {
      put("tokenizer.ggml.scores", scores(*model));
      put("tokenizer.ggml.add_space_prefix", begins_with_space());
    } else {
      put("tokenizer.ggml.merges", model->merges);
    }
    put_special(*model);
    put_templates();
    return std::move(out_);
  }

 private:
  void put(std::string key, GgufValue value) { out_.metadata.emplace_back(std::move(key), std::move(value)); }
  static WrittenVocabulary without(const std::string& why) {
    return {{{"tokenizer.ggml.model", std::string("none")}}, {why + "; ids given with --tokens need none"}};
  }

  void put_tokens(const PublishedModel& model, bool scored) {
    std::vector<std::string> tokens;
    std::vector<int64_t> types;
    for (int64_t row = 0; row < rows_; ++row) {
      const auto id = static_cast<int32_t>(row);
      std::string text = tokenizer_.token_text(id);
      const auto added = parts_.added_by_id.find(id);
      if (text.empty()) {
        text = fmt::format("[PAD{}]", id);
        types.push_back(kUnused);
      } else if (id == model.unknown) {
        types.push_back(kUnknown);
      } else if (added != parts_.added_by_id.end()) {
        types.push_back(parts_.added[added->second].special ? kControl : kUserDefined);
      } else {
        types.push_back(scored && is_byte_token(text) ? kByte : kNormal);
      }
      tokens.push_back(std::move(text));
    }
    put("tokenizer.ggml.tokens", std::move(tokens));
    put("tokenizer.ggml.token_type", std::move(types));
  }

  // Where there are ranks alone, a token's score is the negative rank of the first rule that makes it: the pair that
  // merges first is then the same.
  std::vector<double> scores(const PublishedModel& model) const {
    std::vector<double> scores(model.scores.begin(), model.scores.end());
    if (scores.empty()) {
      scores.assign(static_cast<size_t>(rows_), -1e6);
      for (size_t rank = model.results.size(); rank-- > 0;)
        scores[static_cast<size_t>(model.results[rank])] = -static_cast<double>(rank);
    }
    scores.resize(static_cast<size_t>(rows_), -1e6);
    return scores;
  }
  bool begins_with_space() const {
    EncodeOptions options;
    options.add_special_tokens = false;
    const std::vector<int32_t> ids = tokenizer_.encode("a", options);
    return !ids.empty() && tokenizer_.token_text(ids[0]).starts_with("\xE2\x96\x81");
  }

  void put_special(const PublishedModel& model) {
    const auto put_id = [&](const char* name, std::optional<int32_t> id) {
      if (id) put(fmt::format("tokenizer.ggml.{}_token_id", name), int64_t{*id});
    };
    put_id("bos", parts_.bos);
    put_id("eos", parts_.eos);
    if (model.unknown >= 0) put_id("unknown", model.unknown);
    const auto is_put = [](const std::vector<int32_t>& ids, std::optional<int32_t> id) {
      return id && std::find(ids.begin(), ids.end(), *id) != ids.end();
    };
    put("tokenizer.ggml.add_bos_token", is_put(parts_.before, parts_.bos));
    put("tokenizer.ggml.add_eos_token", is_put(parts_.after, parts_.eos));
    for (const int32_t id : tokenizer_.end_of_turn_tokens())
      if (id != parts_.eos) return put_id("eot", id);  // the format has one
  }
  void put_templates() {
    for (const auto& [name, text] : parts_.chat_templates)
      put(name == "default" ? "tokenizer.chat_template" : "tokenizer.chat_template." + name, text);
  }

  const Tokenizer& tokenizer_;
  const TokenizerParts& parts_;
  int64_t rows_;
  WrittenVocabulary out_;
};

bool has_vocabulary(const std::string& folder) {
  for (const char* name :
       {"tokenizer.json", "tekken.json", "tokenizer.model", "qwen.tiktoken", "vocab.json", "vocab.bpe"})
    if (std::filesystem::exists(std::filesystem::path(folder) / name)) return true;
  return false;
}

}  // namespace

WrittenVocabulary gguf_vocabulary(const std::string& folder, int64_t vocab_size) {
  if (!has_vocabulary(folder)) return {{{"tokenizer.ggml.model", std::string("none")}}, {}};
  return Writer(*Tokenizer::load(folder), vocab_size).write();
}

std::string vocabulary_difference(const std::string& path, const std::string& other) {
  const auto a = Tokenizer::load(path), b = Tokenizer::load(other);
  for (const char* text : kSamples)
    if (a->encode(text) != b->encode(text)) return text;
  return {};
}

}  // namespace lathe
