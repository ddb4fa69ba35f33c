#include "text/tokenizer/normalizer.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "formats/base64.h"
#include "formats/quote.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/pattern.h"
#include "text/unicode/unicode.h"
#include "text/unicode/unicode_scripts.h"

namespace lathe {
namespace {

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}
  void apply(std::string& text) const override { apply_within(text, largest_rewritten(text.size())); }

 private:
  // Forty rules that double a letter would fill any memory: a file of a stranger may ask for them.
  void apply_within(std::string& text, size_t limit) const {
    for (const auto& part : parts_) {
      if (const auto* inner = dynamic_cast<const NormalizerSequence*>(part.get()))
        inner->apply_within(text, limit);
      else
        part->apply(text);
      check(text.size() <= limit, "normalizer", "the text has grown to {} bytes, at most {}", text.size(), limit);
    }
  }
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

class UnicodeNormalizer : public Normalizer {
 public:
  explicit UnicodeNormalizer(NormalForm form) : form_(form) {}
  void apply(std::string& text) const override { text = normalize(text, form_); }

 private:
  NormalForm form_;
};

class Lowercase : public Normalizer {
 public:
  void apply(std::string& text) const override { text = lowercase(text); }
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(std::string& text) const override {
    if (!text.empty()) text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(Regex pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::string& text) const override { text = replace_all(text, pattern_, content_); }

 private:
  Regex pattern_;
  std::string content_;
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(std::string& text) const override {
    if (right_) text.erase(white_space_before(text, text.size()));
    if (left_) text.erase(0, white_space_behind(text, 0));
  }

 private:
  bool left_, right_;
};

// Keeps the characters for which `keep` holds.
template <class Keep>
std::string filter(std::string_view text, const Keep& keep) {
  std::string result;
  for (const auto [c, bytes] : characters(text))
    if (keep(c)) result.append(bytes);
  return result;
}

class StripAccents : public Normalizer {
 public:
  void apply(std::string& text) const override {
    text = filter(text, [](char32_t c) { return !is_mark_in_unicode_9(c); });
  }
};

// Google's neural machine translation rules: controls go, odd spaces become spaces.
class Nmt : public Normalizer {
 public:
  void apply(std::string& text) const override {
    text = filter(text, [](char32_t c) {
      return !((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F ||
               c == 0x9F);
    });
    text = replace_all(text, spaces_, " ");
  }

 private:
  Regex spaces_{
      "[\\x{09}\\x{0A}\\x{0C}\\x{0D}\\x{1680}\\x{200B}-\\x{200F}\\x{2028}\\x{2029}\\x{2581}\\x{FEFF}\\x{FFFD}]"};
};

// Spells every byte as a character, as the byte-level pre-tokeniser does.
class ByteLevelNormalizer : public Normalizer {
 public:
  void apply(std::string& text) const override { text = bytes_to_alphabet(text); }
};

class BertNormalizer : public Normalizer {
 public:
  BertNormalizer(bool clean, bool chinese, bool strip_accents, bool lower)
      : clean_(clean), chinese_(chinese), strip_accents_(strip_accents), lower_(lower) {}
  void apply(std::string& text) const override {
    if (clean_) {
      text = filter(text, [](char32_t c) {
        return c == '\t' || c == '\n' || c == '\r' || (c != 0 && c != 0xFFFD && !is_control_in_unicode_8(c));
      });
      text = replace_all(text, white_space_, " ");
    }
    if (chinese_) text = spaced_ideographs(text);
    if (strip_accents_) {
      text = normalize(text, NormalForm::nfd);
      text = filter(text, [](char32_t c) { return !is_nonspacing_mark_in_unicode_8(c); });
    }
    if (lower_) text = lowercase(text);
  }

 private:
  static std::string spaced_ideographs(std::string_view text) {
    std::string result;
    for (const auto [c, bytes] : characters(text)) {
      const bool ideograph = is_bert_ideograph(c);
      if (ideograph) result += ' ';
      result += bytes;
      if (ideograph) result += ' ';
    }
    return result;
  }

  bool clean_, chinese_, strip_accents_, lower_;
  Regex white_space_{"\\s"};
};

// `tokenizers`' way with sentencepiece's rules (normalizers/precompiled.rs and the crate spm_precompiled): grapheme by
// grapheme. The shortest rule that a grapheme of less than 6 bytes begins with replaces the whole of it; without one,
// and in longer graphemes, each character is looked up by itself.
class Precompiled : public Normalizer {
 public:
  explicit Precompiled(Charsmap charsmap) : charsmap_(std::move(charsmap)) {}
  void apply(std::string& text) const override {
    std::string result;
    result.reserve(text.size() + text.size() / 8);
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
      end = grapheme_end(text, begin);
      const std::string_view grapheme = std::string_view(text).substr(begin, end - begin);
      if (grapheme.size() >= 6 || !replace(grapheme, result)) by_character(grapheme, result);
    }
    text = std::move(result);
  }

 private:
  bool replace(std::string_view part, std::string& result) const {
    const auto match = charsmap_.shortest(part);
    if (match) result += match->replacement;
    return match.has_value();
  }
  void by_character(std::string_view grapheme, std::string& result) const {
    for (size_t i = 0; i < grapheme.size();) {
      const std::string_view character = grapheme.substr(i, character_length(grapheme[i]));
      if (!replace(character, result)) result += character;
      i += character.size();
    }
  }
  Charsmap charsmap_;
};

class UnigramNormalizer : public Normalizer {
 public:
  UnigramNormalizer(Charsmap charsmap, bool prefix, bool merge_spaces)
      : charsmap_(std::move(charsmap)), prefix_(prefix), merge_spaces_(merge_spaces) {}
  void apply(std::string& text) const override {
    std::string result;
    result.reserve(text.size() + text.size() / 8);
    bool prefix_due = prefix_, in_word = false;
    auto put = [&](std::string_view part) {
      for (char c : part) {
        if (c == ' ') {
          in_word = false;
          if (!merge_spaces_) result += kSpaceSymbol;
          continue;
        }
        if (!in_word && (prefix_due || merge_spaces_)) {
          result += kSpaceSymbol;
          prefix_due = false;
        }
        in_word = true;
        result += c;
      }
    };
    for (size_t i = 0; i < text.size();) {
      const std::string_view rest = std::string_view(text).substr(i);
      const auto match = charsmap_.longest(rest);
      const size_t length = match ? match->length : character_length(rest[0]);
      put(match ? match->replacement : rest.substr(0, length));
      i += length;
    }
    text = std::move(result);
  }

 private:
  Charsmap charsmap_;
  bool prefix_, merge_spaces_;
};

class WordNormalizer : public Normalizer {
 public:
  WordNormalizer(bool lower, bool strip_accents) : lower_(lower), strip_accents_(strip_accents) {}
  void apply(std::string& text) const override {
    if (strip_accents_) text = normalize(text, NormalForm::nfd);
    text = filter(text, [&](char32_t c) {
      if (is_white_space(c)) return true;
      return c != 0 && c != 0xFFFD && !is_control(c) && !(strip_accents_ && is_mark(c));
    });
    if (lower_) text = lowercase(text);
  }

 private:
  bool lower_, strip_accents_;
};

std::unique_ptr<Normalizer> make_precompiled(const JsonNode& node) {
  const JsonNode map = node.at("precompiled_charsmap");
  const auto bytes = decode_base64(map.string());
  if (!bytes) map.fail("expected base64");
  try {
    return std::make_unique<Precompiled>(Charsmap(*bytes));
  } catch (const Error& error) {
    node.fail(error.what());
  }
}

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const JsonNode& node) {
  if (node.value().is_null()) return nullptr;
  const std::string type = node.at("type").string();
  if (type == "Sequence") {
    const JsonNode parts = node.at("normalizers");
    std::vector<std::unique_ptr<Normalizer>> made;
    for (size_t i = 0; i < parts.size(); ++i)
      if (auto part = make_normalizer(parts.at(i))) made.push_back(std::move(part));
    return std::make_unique<NormalizerSequence>(std::move(made));
  }
  if (type == "NFC") return std::make_unique<UnicodeNormalizer>(NormalForm::nfc);
  if (type == "NFD") return std::make_unique<UnicodeNormalizer>(NormalForm::nfd);
  if (type == "NFKC") return std::make_unique<UnicodeNormalizer>(NormalForm::nfkc);
  if (type == "NFKD") return std::make_unique<UnicodeNormalizer>(NormalForm::nfkd);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "StripAccents") return std::make_unique<StripAccents>();
  if (type == "Nmt") return std::make_unique<Nmt>();
  if (type == "ByteLevel") return std::make_unique<ByteLevelNormalizer>();
  if (type == "Precompiled") return make_precompiled(node);
  if (type == "Prepend") return std::make_unique<Prepend>(node.at("prepend").string());
  if (type == "Replace")
    return std::make_unique<Replace>(make_pattern(node.at("pattern")), node.at("content").string());
  if (type == "Strip")
    return std::make_unique<Strip>(node.boolean_or("strip_left", true), node.boolean_or("strip_right", true));
  if (type == "BertNormalizer") {
    const bool lower = node.boolean_or("lowercase", true);
    return std::make_unique<BertNormalizer>(node.boolean_or("clean_text", true),
                                            node.boolean_or("handle_chinese_chars", true),
                                            node.boolean_or("strip_accents", lower), lower);
  }
  node.fail(fmt::format("normalizer type {} is not supported", quote(type)),
            "supported: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Nmt, ByteLevel, Precompiled, Prepend, "
            "Replace, Strip, "
            "BertNormalizer");
}

std::unique_ptr<Normalizer> make_space_escaper(bool prefix) {
  std::vector<std::unique_ptr<Normalizer>> parts;
  if (prefix) parts.push_back(std::make_unique<Prepend>(" "));
  parts.push_back(std::make_unique<Replace>(Regex(" ", Regex::Syntax::literal), kSpaceSymbol));
  return std::make_unique<NormalizerSequence>(std::move(parts));
}

std::unique_ptr<Normalizer> make_unigram_normalizer(Charsmap charsmap, bool prefix, bool merge_spaces) {
  return std::make_unique<UnigramNormalizer>(std::move(charsmap), prefix, merge_spaces);
}

std::unique_ptr<Normalizer> make_word_normalizer(bool lower, bool strip_accents) {
  return std::make_unique<WordNormalizer>(lower, strip_accents);
}

}  // namespace lathe
