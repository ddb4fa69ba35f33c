// The grammars of JSON's own values (RFC 8259), in the form that models write.
//
// Between tokens stands nothing, a space, or a line break with up to 40 blanks or tabs: bounded, since a model that
// finds nothing better to say could otherwise write blanks until it is cut off. Numbers have at most 18 digits before
// the point, 18 behind it and two in the exponent, for the same reason, and so that every reader can hold them.
// Surrogates stand in pairs, so that a string is Unicode whichever way it is spelled.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/grammar/grammar.h"

namespace lathe {

// Ranges of characters, their ends included.
using CodePoints = std::vector<std::pair<char32_t, char32_t>>;
CodePoints complement(CodePoints set);

struct NumberBounds {
  // The most digits of an integer, and the largest bound of a number: with 14 digits before the point and 15 in all,
  // different decimals are different doubles.
  static constexpr int64_t kMostInteger = 999'999'999'999'999'999, kMostBound = 99'999'999'999'999;
  std::optional<int64_t> lowest = {}, highest = {};
  bool above_lowest = false, below_highest = false;  // these themselves are none; not for integers
};

class JsonGrammar {
 public:
  explicit JsonGrammar(GrammarBuilder& builder) : g_(builder) {}

  GrammarPart value();   // any
  GrammarPart object();  // of any members
  GrammarPart array();
  GrammarPart string();
  // Of so many characters; a character that is escaped counts once.
  GrammarPart string(uint32_t least, uint32_t most) { return quoted(g_.repeat(any_character(), least, most)); }
  GrammarPart quoted(GrammarPart content);
  // One of these characters, spelled as it is where that may be, else by its shortest escape.
  GrammarPart character(const CodePoints& set);
  GrammarPart literal(const nlohmann::ordered_json& value);
  GrammarPart boolean() { return g_.one_of({"true", "false"}); }
  GrammarPart null() { return g_.text("null"); }
  // Bounds beyond what integers may have are those.
  GrammarPart integer(const NumberBounds& bounds);
  // With bounds there is no exponent.
  GrammarPart number(const NumberBounds& bounds);

  // What may stand between two tokens.
  GrammarPart gap();
  GrammarPart member(const std::string& name, GrammarPart value);
  // A member of any other name. No name is spelled with escapes as far as it agrees with one of `names`.
  GrammarPart other_member(std::vector<std::string> names, GrammarPart value);
  // items, separated: `first` of them in this order, then any number of `rest`, from `least` to `most` in all.
  GrammarPart list(const std::vector<GrammarPart>& first, GrammarPart rest, uint32_t least, uint32_t most);

 private:
  GrammarPart any_character();
  GrammarPart characters_of(const CodePoints& set);  // in UTF-8
  GrammarPart utf8(char32_t first, char32_t last);
  GrammarPart digits(uint32_t least, uint32_t most) { return g_.repeat(g_.bytes('0', '9'), least, most); }
  GrammarPart digits_between(const std::string& lowest, const std::string& highest);
  GrammarPart natural(int64_t lowest, int64_t highest);
  GrammarPart magnitude(const NumberBounds& bounds);
  GrammarPart rest_of_name(const std::vector<std::u32string>& names, size_t read);
  GrammarPart named(std::optional<GrammarPart>& rule, const auto& meaning);

  GrammarBuilder& g_;
  std::optional<GrammarPart> value_, string_;
};

}  // namespace lathe
