#include "text/tokenizer/character_set.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "text/unicode/unicode.h"
#include "text/unicode/unicode_additions.h"

namespace lathe {
namespace {

bool compiles(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF, &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

std::string range(char32_t first, char32_t last) {
  const std::string begin = spelled_character(first);
  return first == last ? begin : begin + "-" + spelled_character(last);
}

// The ranges of the additions whose category begins with one of `prefixes`.
std::string additions(const std::vector<std::string_view>& prefixes) {
  std::string ranges;
  for (const UnicodeAddition& addition : unicode_additions())
    if (std::any_of(prefixes.begin(), prefixes.end(),
                    [&](std::string_view prefix) { return std::string_view(addition.category).starts_with(prefix); }))
      ranges += range(addition.first, addition.last);
  return ranges;
}

std::string loose(std::string_view name) {
  std::string letters;
  for (char c : name)
    if (c != ' ' && c != '_' && c != '-') letters += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return letters;
}

// The general categories: what their loose names are, short and long (PropertyValueAliases.txt).
const std::map<std::string, std::string, std::less<>>& general_categories() {
  static const std::map<std::string, std::string, std::less<>> names = [] {
    constexpr std::pair<const char*, const char*> kNames[] = {
        {"C", "other"},
        {"Cc", "control"},
        {"Cf", "format"},
        {"Cn", "unassigned"},
        {"Co", "privateuse"},
        {"Cs", "surrogate"},
        {"L", "letter"},
        {"Ll", "lowercaseletter"},
        {"Lm", "modifierletter"},
        {"Lo", "otherletter"},
        {"Lt", "titlecaseletter"},
        {"Lu", "uppercaseletter"},
        {"M", "mark"},
        {"Mc", "spacingmark"},
        {"Me", "enclosingmark"},
        {"Mn", "nonspacingmark"},
        {"N", "number"},
        {"Nd", "decimalnumber"},
        {"Nl", "letternumber"},
        {"No", "othernumber"},
        {"P", "punctuation"},
        {"Pc", "connectorpunctuation"},
        {"Pd", "dashpunctuation"},
        {"Pe", "closepunctuation"},
        {"Pf", "finalpunctuation"},
        {"Pi", "initialpunctuation"},
        {"Po", "otherpunctuation"},
        {"Ps", "openpunctuation"},
        {"S", "symbol"},
        {"Sc", "currencysymbol"},
        {"Sk", "modifiersymbol"},
        {"Sm", "mathsymbol"},
        {"So", "othersymbol"},
        {"Z", "separator"},
        {"Zl", "lineseparator"},
        {"Zp", "paragraphseparator"},
        {"Zs", "spaceseparator"},
    };
    std::map<std::string, std::string, std::less<>> map = {{"combiningmark", "M"}};
    for (const auto& [brief, name] : kNames) {
      map[name] = brief;
      map[loose(brief)] = brief;
    }
    return map;
  }();
  return names;
}

}  // namespace

std::string spelled_character(char32_t character) {
  const bool plain = character >= 0x80 || (character >= '0' && character <= '9') ||
                     (character >= 'A' && character <= 'Z') || (character >= 'a' && character <= 'z');
  std::string text;
  if (plain) {
    append_character(text, character);
  } else {
    text = fmt::format("\\x{{{:X}}}", static_cast<uint32_t>(character));
  }
  return text;
}

void CharacterSet::add(char32_t first, char32_t last) { items_ += range(first, last); }

void CharacterSet::add(const CharacterSet& other) {
  if (other.negated_) {
    others_.push_back(other.spelled());
  } else {
    items_ += other.items_;
    others_.insert(others_.end(), other.others_.begin(), other.others_.end());
  }
}

CharacterSet CharacterSet::intersection(const std::vector<CharacterSet>& sets) {
  if (sets.size() == 1) return sets[0];
  std::string pattern = "(?:";
  for (size_t i = 0; i + 1 < sets.size(); ++i) pattern += "(?=" + sets[i].spelled() + ")";
  CharacterSet set;
  set.others_.push_back(pattern + sets.back().spelled() + ")");
  return set;
}

CharacterSet CharacterSet::listed(std::string items) {
  CharacterSet set;
  set.items_ = std::move(items);
  return set;
}

CharacterSet CharacterSet::categories(const std::vector<std::string_view>& prefixes, std::string items) {
  return listed(std::move(items) + additions(prefixes));
}

std::optional<CharacterSet> CharacterSet::shorthand(char letter) {
  switch (letter) {
    case 'w': return posix("word");
    case 's': return posix("space");
    case 'd': return posix("digit");
    case 'h': return posix("xdigit");
    default: return std::nullopt;
  }
}

std::optional<CharacterSet> CharacterSet::posix(std::string_view name) {
  // The marks that Unicode 15 and 16 made alphabetic, and the letters they made lower case.
  constexpr const char* kAlphabetic =
      "\\p{Alphabetic}\\x{363}-\\x{36F}\\x{C04}\\x{F82}-\\x{F83}\\x{1DD3}-\\x{1DE6}\\x{11080}-\\x{11081}";
  if (name == "alpha") return categories({"L", "Mc"}, kAlphabetic);
  if (name == "digit") return categories({"Nd"}, "\\p{Nd}");
  if (name == "alnum") return categories({"L", "Mc", "Nd"}, std::string(kAlphabetic) + "\\p{Nd}");
  if (name == "upper") return categories({"Lu"}, "\\p{Uppercase}");
  if (name == "lower") return categories({"Ll"}, "\\p{Lowercase}\\x{10FC}\\x{A7F2}-\\x{A7F4}\\x{AB69}");
  if (name == "space") return listed("\\p{White_Space}");
  if (name == "blank") return listed("\\p{Zs}\\t");
  if (name == "cntrl") return listed("\\p{Cc}");
  if (name == "punct") return categories({"P", "S"}, "\\p{P}\\p{S}");
  if (name == "xdigit") return listed("0-9a-fA-F");
  if (name == "ascii") return listed("\\x{00}-\\x{7F}");
  // Unicode Technical Standard 18, annex C, without the join controls.
  if (name == "word") return categories({"L", "M", "Nd", "Pc"}, "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}");
  if (name == "graph") return outside("\\p{White_Space}\\p{Cc}\\p{Cn}\\p{Cs}");
  if (name == "print") return outside("\\p{Cc}\\p{Cn}\\p{Cs}\\p{Zl}\\p{Zp}");
  return std::nullopt;
}

CharacterSet CharacterSet::outside(std::string items) {
  CharacterSet others = listed(std::move(items)), set = categories({""}, "");
  others.negate();
  set.add(others);  // the additions are unassigned to PCRE2
  return set;
}

CharacterSet CharacterSet::property(std::string_view name) {
  const bool negated = name.starts_with('^');
  if (negated) name.remove_prefix(1);
  const std::string plain = loose(name);
  CharacterSet set;
  const auto category = general_categories().find(plain);
  if (plain == "any") {
    set = listed("\\x{0}-\\x{10FFFF}");
  } else if (plain == "assigned" || plain == "cn" || plain == "unassigned") {
    set = outside("\\p{Cn}");
    if (plain != "assigned") set.negate();
  } else if (plain == "c" || plain == "other") {
    set = outside("\\p{Cn}");
    set.negate();
    CharacterSet other = categories({"C"}, "\\p{Cc}\\p{Cf}\\p{Co}\\p{Cs}");
    other.add(set);
    set = std::move(other);
  } else if (category != general_categories().end()) {
    set = categories({category->second}, "\\p{" + category->second + "}");
  } else if (plain == "punct") {  // without the symbols that [:punct:] has
    set = categories({"P"}, "\\p{P}");
  } else if (auto known = posix(plain)) {
    set = std::move(*known);
  } else if (const std::string script = fmt::format("\\p{{sc:{}}}", name); compiles(script)) {
    set = listed(script);
    if (plain == "han" || plain == "hani")
      set.items_ += range(0x2B739, 0x2B739) + range(0x2EBF0, 0x2EE5D) + range(0x31350, 0x323AF);
  } else {
    set = listed(fmt::format("\\p{{{}}}", name));
  }
  if (negated) set.negate();
  return set;
}

std::string CharacterSet::spelled() const {
  if (others_.empty() && !items_.empty()) return (negated_ ? "[^" : "[") + items_ + "]";
  std::string any = "(?:";
  if (!items_.empty()) any += "[" + items_ + "]";
  for (const std::string& other : others_) any.append(any.size() > 3 ? "|" : "").append(other);
  if (any.size() == 3) any += "(?!)";  // nothing
  any += ")";
  return negated_ ? "(?:(?!" + any + ")(?s:.))" : any;
}

}  // namespace lathe
