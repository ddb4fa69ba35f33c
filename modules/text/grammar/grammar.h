// A grammar over bytes, and what puts one together.
//
//   GrammarBuilder g;
//   const GrammarPart call = g.sequence({g.token("<tool_call>"), g.text("\n{\"name\": \"f\", \"arguments\": "),
//                                        json_schema(g, schema, "parameters"), g.text("}\n"),
//                                        g.token("</tool_call>")});
//   request.grammar = g.finish(g.any_of({call, other_call}));
//
// A text is matched by a stack of parts that are still to come (text/grammar/grammar_matcher.h); a rule is a part
// that may contain itself, so grammars are context free.
#pragma once
#include <bitset>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lathe {

using ByteSet = std::bitset<256>;

// An expression, and where in it a match stands: the next byte of a text, the next part of a sequence, how often a
// repetition is still needed and allowed.
struct GrammarPart {
  uint32_t expression = 0, next = 0, most = 0;
  bool operator==(const GrammarPart&) const = default;
};

struct Grammar {
  enum class Kind : uint8_t { bytes, text, sequence, choice, repeat, rule };
  struct Expression {
    Kind kind;
    bool possible = true;                 // some text matches it
    bool may_be_empty = false;            // not of a repetition, whose part knows
    ByteSet bytes = {};                   // of which one follows
    std::string text = {};                // that follows
    std::vector<GrammarPart> parts = {};  // all in a row; one of them; that which is repeated; what the rule means
    bool operator==(const Expression&) const = default;
  };
  std::vector<Expression> expressions;
  GrammarPart root;
  bool operator==(const Grammar&) const = default;

  // Whether some text matches the part `p` of the expression `of`: a repetition of what nothing matches may be none.
  static bool possible(const Expression& of, GrammarPart p) {
    return of.possible || (of.kind == Kind::repeat && p.next == 0);
  }

  static constexpr uint32_t kUnbounded = UINT32_MAX;
  // Begins the bytes of a special token, which its text follows: no text in UTF-8 has this byte, so a special token
  // matches nothing but what names it.
  static constexpr char kSpecial = '\xff';
};

// Equal expressions exist once. Throws Error where a grammar gets too large.
class GrammarBuilder {
 public:
  GrammarBuilder() = default;
  // Goes on with an existing grammar, whose root is `grammar.root`.
  explicit GrammarBuilder(const Grammar& grammar) : expressions_(grammar.expressions) {}

  GrammarPart text(std::string_view bytes);
  // The text, spelled by ordinary tokens or by the special token of that name.
  GrammarPart token(std::string_view name);
  // One of a list of texts, which share what they begin with.
  GrammarPart one_of(std::vector<std::string> texts);
  GrammarPart bytes(const ByteSet& set);
  GrammarPart bytes(uint8_t lowest, uint8_t highest);
  GrammarPart sequence(std::vector<GrammarPart> parts);
  GrammarPart any_of(std::vector<GrammarPart> parts);  // of none: nothing matches
  // Throws Error where `part` matches the empty text.
  GrammarPart repeat(GrammarPart part, uint32_t least, uint32_t most = Grammar::kUnbounded);
  GrammarPart optional(GrammarPart part) { return any_of({text(""), part}); }
  // Anything, special tokens too, up to the first `marker` (not empty) and that itself.
  GrammarPart up_to(std::string_view marker);
  // To be defined once; what it means is no empty text.
  GrammarPart rule();
  void define(GrammarPart rule, GrammarPart meaning) { expressions_[rule.expression].parts = {meaning}; }

  // Throws Error where no text matches.
  std::shared_ptr<const Grammar> finish(GrammarPart root);

  static constexpr size_t kMostExpressions = 200'000;

 private:
  GrammarPart add(Grammar::Expression expression);
  bool may_be_empty(GrammarPart part) const;
  bool possible(GrammarPart part) const;

  std::vector<Grammar::Expression> expressions_;
  std::unordered_map<std::string, uint32_t> places_;  // of expressions by what they are
};

}  // namespace lathe
