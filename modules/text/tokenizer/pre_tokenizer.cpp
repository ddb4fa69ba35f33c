#include "text/tokenizer/pre_tokenizer.h"

#include <nlohmann/json.hpp>

#include "formats/quote.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/pattern.h"
#include "text/unicode/unicode.h"
#include "text/unicode/unicode_scripts.h"

namespace lathe {
namespace {

// GPT-2's pattern (openai/gpt-2, src/encoder.py).
constexpr const char* kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
// Rust's char::is_numeric, with what Unicode 17 added.
constexpr const char* kNumeric = "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]";

// Unicode counts ASCII punctuation in part as symbols.
bool is_ascii_punctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

bool is_bert_punctuation(char32_t c) { return c < 0x80 ? is_ascii_punctuation(c) : is_punctuation_in_unicode_8(c); }

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> stages) : stages_(std::move(stages)) {}
  void split(Piece piece, const PieceSink& next) const override { from(0, piece, next); }

 private:
  void from(size_t stage, Piece piece, const PieceSink& next) const {
    if (stage == stages_.size()) return next(piece);
    stages_[stage]->split(piece, [&](Piece part) { from(stage + 1, part, next); });
  }
  std::vector<std::unique_ptr<PreTokenizer>> stages_;
};

// Takes the segments, delimiters and others, in their order, and hands on what the behaviour makes of them.
struct Joiner {
  Piece whole;
  const PieceSink& next;
  SplitBehavior behavior;
  size_t begin = 0, end = 0;  // the segments joined so far
  bool open = false;          // whether there are any
  bool delimiter = false;     // whether the last segment was one

  void segment(size_t from, size_t to, bool is_delimiter) {
    bool joins = false;
    switch (behavior) {
      case SplitBehavior::removed:
        if (!is_delimiter) emit(from, to);
        return;
      case SplitBehavior::isolated: return emit(from, to);
      case SplitBehavior::merged_with_previous: joins = is_delimiter && !delimiter; break;
      case SplitBehavior::merged_with_next: joins = delimiter && !is_delimiter; break;
      case SplitBehavior::contiguous: joins = delimiter == is_delimiter; break;
    }
    if (open && joins) {
      end = to;
    } else {
      finish();
      begin = from;
      end = to;
      open = true;
    }
    delimiter = is_delimiter;
  }
  void finish() {
    if (open) emit(begin, end);
    open = false;
  }
  void emit(size_t from, size_t to) const { next({whole.text.substr(from, to - from), whole.first && from == 0}); }
};

class Split : public PreTokenizer {
 public:
  Split(Regex pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void split(Piece piece, const PieceSink& next) const override {
    Joiner joiner{piece, next, behavior_};
    Regex::Matches matches(pattern_, piece.text);
    size_t begin = 0, end = 0, done = 0;
    while (matches.next(begin, end)) {
      if (done < begin) joiner.segment(done, begin, invert_);
      joiner.segment(begin, end, !invert_);
      done = end;
    }
    if (done < piece.text.size()) joiner.segment(done, piece.text.size(), invert_);
    joiner.finish();
  }

 private:
  Regex pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// A Split whose delimiters are single characters, told by a predicate.
template <class IsDelimiter>
class CharacterSplit : public PreTokenizer {
 public:
  CharacterSplit(IsDelimiter is_delimiter, SplitBehavior behavior) : is_delimiter_(is_delimiter), behavior_(behavior) {}

  void split(Piece piece, const PieceSink& next) const override {
    Joiner joiner{piece, next, behavior_};
    size_t done = 0;
    for (size_t position = 0; position < piece.text.size();) {
      const size_t begin = position;
      if (!is_delimiter_(next_character(piece.text, position))) continue;
      if (done < begin) joiner.segment(done, begin, false);
      joiner.segment(begin, position, true);
      done = position;
    }
    if (done < piece.text.size()) joiner.segment(done, piece.text.size(), false);
    joiner.finish();
  }

 private:
  IsDelimiter is_delimiter_;
  SplitBehavior behavior_;
};

template <class IsDelimiter>
std::unique_ptr<PreTokenizer> split_at(IsDelimiter is_delimiter, SplitBehavior behavior) {
  return std::make_unique<CharacterSplit<IsDelimiter>>(is_delimiter, behavior);
}

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex) : add_prefix_space_(add_prefix_space) {
    if (use_regex) words_ = make_split(Regex(kGpt2Pattern), SplitBehavior::isolated);
  }
  void split(Piece piece, const PieceSink& next) const override {
    std::string prefixed;
    if (add_prefix_space_ && piece.text.front() != ' ') {
      prefixed.append(" ").append(piece.text);
      piece.text = prefixed;
    }
    std::string spelled;
    auto spell = [&](Piece word) {
      spelled.clear();
      append_to_alphabet(spelled, word.text);
      next({spelled, word.first});
    };
    if (words_) {
      words_->split(piece, spell);
    } else {
      spell(piece);
    }
  }

 private:
  bool add_prefix_space_;
  std::unique_ptr<PreTokenizer> words_;
};

class Metaspace : public PreTokenizer {
 public:
  // first: where the normalised text begins. The reference asks for the original one's beginning, so there a normaliser
  // that takes away the start takes the prefix away, too.
  enum class Prepend { always, first, never };
  Metaspace(std::string replacement, Prepend prepend, bool cut)
      : replacement_(std::move(replacement)), prepend_(prepend) {
    if (cut) words_ = make_split(Regex(replacement_, Regex::Syntax::literal), SplitBehavior::merged_with_next);
  }
  void split(Piece piece, const PieceSink& next) const override {
    std::string text = replace_all(piece.text, space_, replacement_);
    if ((prepend_ == Prepend::always || (prepend_ == Prepend::first && piece.first)) && !text.starts_with(replacement_))
      text.insert(0, replacement_);
    if (words_) {
      words_->split({text, piece.first}, next);
    } else {
      next({text, piece.first});
    }
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  Regex space_{" ", Regex::Syntax::literal};
  std::unique_ptr<PreTokenizer> words_;
};

class FixedLength : public PreTokenizer {
 public:
  explicit FixedLength(size_t characters) : characters_(characters) {}
  void split(Piece piece, const PieceSink& next) const override {
    for (size_t begin = 0, end = 0; begin < piece.text.size(); begin = end) {
      end += character_offset(piece.text.substr(begin), characters_);
      next({piece.text.substr(begin, end - begin), piece.first && begin == 0});
    }
  }

 private:
  size_t characters_;
};

// Cuts where the script changes. As in `tokenizers`, what belongs to no script stays with the piece before it, and what
// of it comes first in the text is lost.
class UnicodeScripts : public PreTokenizer {
 public:
  void split(Piece piece, const PieceSink& next) const override {
    size_t begin = std::string_view::npos;
    int last = 0;
    for (size_t position = 0; position < piece.text.size();) {
      const size_t here = position;
      const int script = script_class(next_character(piece.text, position));
      if (script == 0 || script == last) continue;
      if (last != 0) next({piece.text.substr(begin, here - begin), piece.first && begin == 0});
      begin = here;
      last = script;
    }
    if (last != 0) next({piece.text.substr(begin), piece.first && begin == 0});
  }
};

SplitBehavior behavior_of(const JsonNode& node) {
  const std::string name = node.string();
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  node.fail(fmt::format("behavior {} is not known", quote(name)),
            "known: Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

std::unique_ptr<PreTokenizer> make_metaspace(const JsonNode& node) {
  using Prepend = Metaspace::Prepend;
  const std::string scheme = node.string_or("prepend_scheme", "always");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    node.fail(fmt::format("prepend_scheme {} is not known", quote(scheme)), "known: always, first, never");
  Prepend prepend = scheme == "first" ? Prepend::first : scheme == "never" ? Prepend::never : Prepend::always;
  if (!node.boolean_or("add_prefix_space", true)) prepend = Prepend::never;  // the older field
  return std::make_unique<Metaspace>(node.at("replacement").string(), prepend, node.boolean_or("split", true));
}

std::unique_ptr<PreTokenizer> make_bert() {
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  stages.push_back(split_at(is_white_space, SplitBehavior::removed));
  stages.push_back(split_at(is_bert_punctuation, SplitBehavior::isolated));
  return make_sequence(std::move(stages));
}

}  // namespace

std::unique_ptr<PreTokenizer> make_split(Regex pattern, SplitBehavior behavior, bool invert) {
  return std::make_unique<Split>(std::move(pattern), behavior, invert);
}

std::unique_ptr<PreTokenizer> make_byte_level(bool add_prefix_space, bool use_regex) {
  return std::make_unique<ByteLevel>(add_prefix_space, use_regex);
}

std::unique_ptr<PreTokenizer> make_sequence(std::vector<std::unique_ptr<PreTokenizer>> stages) {
  return std::make_unique<Sequence>(std::move(stages));
}

std::unique_ptr<PreTokenizer> make_word_splitter() {
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  stages.push_back(split_at(is_white_space, SplitBehavior::removed));
  stages.push_back(
      split_at([](char32_t c) { return is_ascii_punctuation(c) || is_punctuation(c) || is_bert_ideograph(c); },
               SplitBehavior::isolated));
  return make_sequence(std::move(stages));
}

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonNode& node) {
  if (node.value().is_null()) return nullptr;
  const std::string type = node.at("type").string();
  if (type == "Sequence") {
    const JsonNode parts = node.at("pretokenizers");
    std::vector<std::unique_ptr<PreTokenizer>> stages;
    for (size_t i = 0; i < parts.size(); ++i)
      if (auto stage = make_pre_tokenizer(parts.at(i))) stages.push_back(std::move(stage));
    return make_sequence(std::move(stages));
  }
  if (type == "Split")
    return make_split(make_pattern(node.at("pattern")), behavior_of(node.at("behavior")), node.at("invert").boolean());
  if (type == "ByteLevel")
    return make_byte_level(node.boolean_or("add_prefix_space", true), node.boolean_or("use_regex", true));
  if (type == "Metaspace") return make_metaspace(node);
  if (type == "Digits")
    return make_split(Regex(kNumeric), node.boolean_or("individual_digits", false) ? SplitBehavior::isolated
                                                                                   : SplitBehavior::contiguous);
  if (type == "Punctuation")
    return split_at(is_bert_punctuation,
                    node.has("behavior") ? behavior_of(node.at("behavior")) : SplitBehavior::isolated);
  if (type == "Whitespace")  // Rust's \w has the join controls
    return make_split(Regex("[\\w\\p{Join_Control}]+|[^\\w\\p{Join_Control}\\s]+"), SplitBehavior::removed, true);
  if (type == "WhitespaceSplit") return split_at(is_white_space, SplitBehavior::removed);
  if (type == "CharDelimiterSplit")
    return make_split(Regex(node.at("delimiter").string(), Regex::Syntax::literal), SplitBehavior::removed);
  if (type == "BertPreTokenizer") return make_bert();
  if (type == "UnicodeScripts") return std::make_unique<UnicodeScripts>();
  if (type == "FixedLength") {
    const int64_t characters = node.has("length") ? node.at("length").integer() : 5;
    if (characters < 1) node.fail(fmt::format("length is {}, expected at least 1", characters));
    return std::make_unique<FixedLength>(static_cast<size_t>(characters));
  }
  node.fail(fmt::format("pre_tokenizer type {} is not supported", quote(type)),
            "supported: Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, "
            "CharDelimiterSplit, BertPreTokenizer, UnicodeScripts, FixedLength");
}

}  // namespace lathe
