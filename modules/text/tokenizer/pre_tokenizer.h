// What cuts the normalised text into the pieces that the model sees: the `pre_tokenizer` of tokenizer.json.
//
// A stage hands each piece to the next one as soon as it has it, so that a text of any length needs no list of pieces.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "formats/json_node.h"
#include "text/tokenizer/regex.h"

namespace lathe {

struct Piece {
  std::string_view text;  // valid UTF-8, lives as long as the call that hands it on
  bool first;             // begins where the whole input begins
};

// A reference to a callable that takes a Piece; unlike std::function it never allocates.
class PieceSink {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, PieceSink>)
      PieceSink(const F& f)  // NOLINT(google-explicit-constructor): lambdas are passed as they are
      : callable_(&f), call_([](const void* callable, Piece piece) { (*static_cast<const F*>(callable))(piece); }) {}
  void operator()(Piece piece) const {
    if (!piece.text.empty()) call_(callable_, piece);
  }

 private:
  const void* callable_;
  void (*call_)(const void*, Piece);
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void split(Piece piece, const PieceSink& next) const = 0;
};

// What becomes of the matches of a pattern ("delimiters") and of what lies between them.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

std::unique_ptr<PreTokenizer> make_split(Regex pattern, SplitBehavior behavior, bool invert = false);
// Spells the bytes of each piece in GPT-2's alphabet; with `use_regex` cuts it by GPT-2's pattern first.
std::unique_ptr<PreTokenizer> make_byte_level(bool add_prefix_space, bool use_regex);
std::unique_ptr<PreTokenizer> make_sequence(std::vector<std::unique_ptr<PreTokenizer>> stages);
// Words as GGUF files of kind `bert` have them: white space parts them, punctuation and ideographs stand alone.
std::unique_ptr<PreTokenizer> make_word_splitter();

// The pre-tokeniser that `node` describes, null for JSON's null. Throws Error for a type that is not supported, by
// name.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonNode& node);

}  // namespace lathe
