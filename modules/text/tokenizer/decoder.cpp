#include "text/tokenizer/decoder.h"

#include <functional>
#include <nlohmann/json.hpp>

#include "formats/quote.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/pattern.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

// A machine that looks at whole tokens: it gathers the parts of each.
class TokenStage : public DecoderStage {
 public:
  explicit TokenStage(DecoderStage& next) : next_(next) {}
  void text(std::string_view part) override { gathered_ += part; }
  void end_token() override {
    std::string whole = std::move(gathered_);
    gathered_.clear();
    token(std::move(whole));
  }
  void finish() override { next_.finish(); }

 protected:
  virtual void token(std::string text) = 0;
  void emit(std::string_view text) {
    next_.text(text);
    next_.end_token();
  }
  DecoderStage& next_;

 private:
  std::string gathered_;
};

// A decoder that maps each token by itself; `index` counts them.
class TokenMap : public Decoder {
 public:
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override {
    return std::make_unique<Stage>(*this, next);
  }
  virtual std::string map(std::string token, size_t index) const = 0;

 private:
  class Stage : public TokenStage {
   public:
    Stage(const TokenMap& decoder, DecoderStage& next) : TokenStage(next), decoder_(decoder) {}
    void token(std::string text) override { emit(decoder_.map(std::move(text), index_++)); }

   private:
    const TokenMap& decoder_;
    size_t index_ = 0;
  };
};

class DecoderSequence : public Decoder {
 public:
  explicit DecoderSequence(std::vector<std::unique_ptr<Decoder>> parts) : parts_(std::move(parts)) {}
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override {
    return std::make_unique<Chain>(parts_, next);
  }
  std::string token_bytes(std::string token) const override {
    for (const auto& part : parts_) token = part->token_bytes(std::move(token));
    return token;
  }

 private:
  class Chain : public DecoderStage {
   public:
    Chain(const std::vector<std::unique_ptr<Decoder>>& parts, DecoderStage& next) : head_(&next) {
      for (size_t i = parts.size(); i-- > 0;) {
        stages_.push_back(parts[i]->start(*head_));
        head_ = stages_.back().get();
      }
    }
    void text(std::string_view part) override { head_->text(part); }
    void end_token() override { head_->end_token(); }
    void finish() override { head_->finish(); }

   private:
    std::vector<std::unique_ptr<DecoderStage>> stages_;  // last first
    DecoderStage* head_;
  };
  std::vector<std::unique_ptr<Decoder>> parts_;
};

// Tokens spelled in GPT-2's alphabet become bytes, all of them together one string.
class ByteLevelDecoder : public Decoder {
 public:
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override { return std::make_unique<Stage>(next); }
  std::string token_bytes(std::string token) const override {
    auto bytes = alphabet_to_bytes(token);
    return bytes ? std::move(*bytes) : token;
  }

 private:
  class Stage : public TokenStage {
   public:
    using TokenStage::TokenStage;
    void token(std::string text) override {
      auto bytes = alphabet_to_bytes(text);  // a token that is not in the alphabet stands for itself
      next_.text(repair_.push(bytes ? *bytes : text));
    }
    void finish() override {
      next_.text(repair_.finish());
      next_.end_token();
      next_.finish();
    }

   private:
    Utf8Repair repair_;
  };
};

// The byte that <0x0A> stands for.
std::optional<char> byte_of(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
  int value = 0;
  for (char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = 16 * value + digit;
  }
  return static_cast<char>(value);
}

class ByteFallback : public Decoder {
 public:
  explicit ByteFallback(BrokenBytes broken) : broken_(broken) {}
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override {
    return std::make_unique<Stage>(broken_, next);
  }
  std::string token_bytes(std::string token) const override {
    auto byte = byte_of(token);
    return byte ? std::string(1, *byte) : token;
  }

 private:
  class Stage : public TokenStage {
   public:
    Stage(BrokenBytes broken, DecoderStage& next) : TokenStage(next), broken_(broken) {}
    void token(std::string text) override {
      if (auto byte = byte_of(text)) {
        run_ += *byte;
        if (broken_ != BrokenBytes::whole_run) emit_settled(false);
      } else {
        end_run();
        emit(text);
      }
    }
    void finish() override {
      end_run();
      next_.finish();
    }

   private:
    void end_run() {
      if (run_.empty()) return;
      if (broken_ != BrokenBytes::whole_run) return emit_settled(true);
      if (first_invalid_utf8(run_)) {
        for (size_t i = 0; i < run_.size(); ++i) emit(kReplacement);
      } else {
        emit(run_);
      }
      run_.clear();
    }
    // Hands on what later bytes cannot change; at the `end` of a run that is all.
    void emit_settled(bool end) {
      size_t done = 0;
      while (done < run_.size()) {
        const Utf8Head head = utf8_head(std::string_view(run_).substr(done));
        if (head.kind == Utf8Head::Kind::character) {
          emit(std::string_view(run_).substr(done, head.length));
        } else if (head.kind == Utf8Head::Kind::incomplete && !end) {
          break;
        } else {
          const size_t count = broken_ == BrokenBytes::each_byte ? head.length : 1;
          for (size_t i = 0; i < count; ++i) emit(kReplacement);
        }
        done += head.length;
      }
      run_.erase(0, done);
    }
    BrokenBytes broken_;
    std::string run_;
  };
  BrokenBytes broken_;
};

class ReplaceDecoder : public TokenMap {
 public:
  ReplaceDecoder(Regex pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string map(std::string token, size_t) const override { return replace_all(token, pattern_, content_); }
  std::string token_bytes(std::string token) const override {
    // A byte token before this stage may be no character by itself, and then has nothing to replace.
    return first_invalid_utf8(token) ? token : replace_all(token, pattern_, content_);
  }

 private:
  Regex pattern_;
  std::string content_;
};

// All tokens become one.
class Fuse : public Decoder {
 public:
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override { return std::make_unique<Stage>(next); }

 private:
  class Stage : public DecoderStage {
   public:
    explicit Stage(DecoderStage& next) : next_(next) {}
    void text(std::string_view part) override { next_.text(part); }
    void end_token() override {}
    void finish() override {
      next_.end_token();
      next_.finish();
    }

   private:
    DecoderStage& next_;
  };
};

class StripDecoder : public Decoder {
 public:
  StripDecoder(std::string character, int64_t start, int64_t stop)
      : character_(std::move(character)), start_(start), stop_(stop) {}
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override {
    return std::make_unique<Stage>(*this, next);
  }

 private:
  // Works on parts, so that it does not stop the stream behind a Fuse.
  class Stage : public DecoderStage {
   public:
    Stage(const StripDecoder& decoder, DecoderStage& next)
        : decoder_(decoder), next_(next), to_strip_(decoder.start_) {}
    void text(std::string_view part) override {
      const std::string& c = decoder_.character_;
      while (to_strip_ > 0 && !part.empty()) {
        if (part.substr(0, c.size()) != c) {
          to_strip_ = 0;
          break;
        }
        part.remove_prefix(c.size());
        --to_strip_;
      }
      if (part.empty()) return;
      held_ += part;
      // Only a run of `character` at the end, of at most `stop` of them, can still be stripped.
      size_t keep = held_.size();
      for (int64_t i = 0; i < decoder_.stop_ && keep >= c.size() && held_.compare(keep - c.size(), c.size(), c) == 0;
           ++i)
        keep -= c.size();
      next_.text(std::string_view(held_).substr(0, keep));
      held_.erase(0, keep);
    }
    void end_token() override {
      held_.clear();
      to_strip_ = decoder_.start_;
      next_.end_token();
    }
    void finish() override { next_.finish(); }

   private:
    const StripDecoder& decoder_;
    DecoderStage& next_;
    int64_t to_strip_;
    std::string held_;
  };
  std::string character_;
  int64_t start_, stop_;
};

class LeadingSymbolStrip : public Decoder {
 public:
  LeadingSymbolStrip(std::string symbol, bool all) : symbol_(std::move(symbol)), all_(all) {}
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override {
    return std::make_unique<Stage>(*this, next);
  }

 private:
  class Stage : public TokenStage {
   public:
    Stage(const LeadingSymbolStrip& decoder, DecoderStage& next) : TokenStage(next), decoder_(decoder) {}
    void token(std::string text) override {
      if (!done_) {
        const std::string& symbol = decoder_.symbol_;
        const bool leads = text.starts_with(symbol);
        if (leads) text.erase(0, symbol.size());
        done_ = !text.empty() || (leads && !decoder_.all_);
      }
      emit(text);
    }

   private:
    const LeadingSymbolStrip& decoder_;
    bool done_ = false;
  };
  std::string symbol_;
  bool all_;
};

class MetaspaceDecoder : public TokenMap {
 public:
  MetaspaceDecoder(std::string replacement, bool prepended)
      : replacement_(replacement, Regex::Syntax::literal), prepended_(prepended) {}
  std::string map(std::string token, size_t index) const override {
    return replace_all(token, replacement_, index == 0 && prepended_ ? "" : " ");
  }
  std::string token_bytes(std::string token) const override { return replace_all(token, replacement_, " "); }

 private:
  Regex replacement_;
  bool prepended_;
};

// Takes away the spaces that tokenising English put before punctuation: the reference's list, in its order.
std::string cleaned_up(std::string token) {
  static constexpr std::pair<const char*, const char*> kCleanups[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kCleanups)
    for (size_t at = 0; (at = token.find(from, at)) != std::string::npos; at += std::string_view(to).size())
      token.replace(at, std::string_view(from).size(), to);
  return token;
}

class WordPieceDecoder : public TokenMap {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  std::string map(std::string token, size_t index) const override {
    if (index > 0) token = token_bytes(std::move(token));
    return cleanup_ ? cleaned_up(std::move(token)) : token;
  }
  std::string token_bytes(std::string token) const override {
    if (!prefix_.empty() && token.starts_with(prefix_)) return token.substr(prefix_.size());
    return " " + token;
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

// Connectionist temporal classification (speech): a token that repeats counts once, padding parts the repeats.
class CtcDecoder : public Decoder {
 public:
  CtcDecoder(const std::string& pad, const std::string& delimiter, bool cleanup)
      : pad_(pad, Regex::Syntax::literal), delimiter_(delimiter, Regex::Syntax::literal), cleanup_(cleanup) {}
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override {
    return std::make_unique<Stage>(*this, next);
  }
  std::string token_bytes(std::string token) const override {
    token = replace_all(token, pad_, "");
    return cleanup_ ? replace_all(cleaned_up(std::move(token)), delimiter_, " ") : token;
  }

 private:
  class Stage : public TokenStage {
   public:
    Stage(const CtcDecoder& decoder, DecoderStage& next) : TokenStage(next), decoder_(decoder) {}
    void token(std::string text) override {
      if (last_ == text) return;
      last_ = text;
      const std::string shown = decoder_.token_bytes(std::move(text));
      if (!shown.empty()) emit(shown);
    }

   private:
    const CtcDecoder& decoder_;
    std::optional<std::string> last_;
  };
  Regex pad_, delimiter_;
  bool cleanup_;
};

// A machine that treats the last token differently, so it is always one token behind.
class LastTokenStage : public TokenStage {
 public:
  using Map = std::function<std::string(std::string token, bool last)>;
  LastTokenStage(Map map, DecoderStage& next) : TokenStage(next), map_(std::move(map)) {}
  void token(std::string text) override {
    if (held_) emit(map_(std::move(*held_), false));
    held_ = std::move(text);
  }
  void finish() override {
    if (held_) emit(map_(std::move(*held_), true));
    held_.reset();
    next_.finish();
  }

 private:
  Map map_;
  std::optional<std::string> held_;
};

// The end-of-word suffix of the original BPE becomes a space, but at the end of the text.
class BpeDecoder : public Decoder {
 public:
  explicit BpeDecoder(std::string suffix) : suffix_(suffix, Regex::Syntax::literal) {}
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override {
    return std::make_unique<LastTokenStage>(
        [this](std::string token, bool last) { return replace_all(token, suffix_, last ? "" : " "); }, next);
  }
  std::string token_bytes(std::string token) const override { return replace_all(token, suffix_, " "); }

 private:
  Regex suffix_;
};

class SpaceJoiner : public Decoder {
 public:
  std::unique_ptr<DecoderStage> start(DecoderStage& next) const override {
    return std::make_unique<LastTokenStage>([](std::string token, bool last) { return last ? token : token + " "; },
                                            next);
  }
};

}  // namespace

std::unique_ptr<Decoder> make_decoder_sequence(std::vector<std::unique_ptr<Decoder>> stages) {
  return std::make_unique<DecoderSequence>(std::move(stages));
}
std::unique_ptr<Decoder> make_byte_level_decoder() { return std::make_unique<ByteLevelDecoder>(); }
std::unique_ptr<Decoder> make_byte_fallback_decoder(BrokenBytes broken) {
  return std::make_unique<ByteFallback>(broken);
}
std::unique_ptr<Decoder> make_literal_replacer(std::string from, std::string to) {
  return std::make_unique<ReplaceDecoder>(Regex(from, Regex::Syntax::literal), std::move(to));
}
std::unique_ptr<Decoder> make_fuse() { return std::make_unique<Fuse>(); }
std::unique_ptr<Decoder> make_strip(std::string character, int64_t start, int64_t stop) {
  return std::make_unique<StripDecoder>(std::move(character), start, stop);
}
std::unique_ptr<Decoder> make_leading_symbol_strip(std::string symbol, bool all) {
  return std::make_unique<LeadingSymbolStrip>(std::move(symbol), all);
}
std::unique_ptr<Decoder> make_space_joiner() { return std::make_unique<SpaceJoiner>(); }

std::unique_ptr<Decoder> make_decoder(const JsonNode& node) {
  if (node.value().is_null()) return make_space_joiner();
  const std::string type = node.at("type").string();
  if (type == "Sequence") {
    const JsonNode parts = node.at("decoders");
    std::vector<std::unique_ptr<Decoder>> stages;
    for (size_t i = 0; i < parts.size(); ++i) stages.push_back(make_decoder(parts.at(i)));
    return make_decoder_sequence(std::move(stages));
  }
  if (type == "ByteLevel") return make_byte_level_decoder();
  if (type == "ByteFallback") return make_byte_fallback_decoder(BrokenBytes::whole_run);
  if (type == "Fuse") return make_fuse();
  if (type == "Replace")
    return std::make_unique<ReplaceDecoder>(make_pattern(node.at("pattern")), node.at("content").string());
  if (type == "Strip") {
    const std::string content = node.at("content").string();
    const int64_t start = node.at("start").integer(), stop = node.at("stop").integer();
    if (content.empty() || start < 0 || stop < 0) node.fail("expected one character, start and stop of at least 0");
    return make_strip(content, start, stop);
  }
  if (type == "Metaspace") {
    const bool prepended =
        node.string_or("prepend_scheme", "always") != "never" && node.boolean_or("add_prefix_space", true);
    return std::make_unique<MetaspaceDecoder>(node.at("replacement").string(), prepended);
  }
  if (type == "WordPiece")
    return std::make_unique<WordPieceDecoder>(node.string_or("prefix", "##"), node.boolean_or("cleanup", true));
  if (type == "BPEDecoder") return std::make_unique<BpeDecoder>(node.string_or("suffix", "</w>"));
  if (type == "CTC")
    return std::make_unique<CtcDecoder>(node.string_or("pad_token", "<pad>"),
                                        node.string_or("word_delimiter_token", "|"), node.boolean_or("cleanup", true));
  node.fail(
      fmt::format("decoder type {} is not supported", quote(type)),
      "supported: Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, WordPiece, BPEDecoder, CTC");
}

}  // namespace lathe
