#include "text/grammar/pattern_grammar.h"

#include <cctype>

#include "formats/quote.h"
#include "tensor/errors.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

constexpr uint32_t kMostRepeats = 100'000;
constexpr int kMostNested = 64;

const CodePoints kDigits = {{'0', '9'}};
const CodePoints kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
// Beyond ASCII, readers differ on what \s is: no side of it is written.
const CodePoints kBlank = {{'\t', '\r'}, {' ', ' '}};
const CodePoints kAnyBlank = {{'\t', '\r'},     {0x1c, ' '},      {0x85, 0x85},     {0xa0, 0xa0},
                              {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                              {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
const CodePoints kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class PatternReader {
 public:
  PatternReader(GrammarBuilder& builder, std::string_view pattern) : g_(builder), json_(builder), pattern_(pattern) {
    check_utf8(pattern, "pattern");
    for (const auto& [code, bytes] : characters(pattern)) text_.push_back(code);
  }

  GrammarPart whole() {
    const GrammarPart anything = g_.repeat(json_.character(complement({})), 0);
    std::vector<GrammarPart> parts;
    do {
      const bool from_begin = accept('^');
      const GrammarPart middle = sequence();
      const bool to_end = accept('$');
      parts.push_back(g_.sequence({from_begin ? g_.text("") : anything, middle, to_end ? g_.text("") : anything}));
    } while (accept('|'));
    if (at_ < text_.size()) fail("what it holds is not closed, opened or placed as it may be");
    return g_.any_of(std::move(parts));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(fmt::format("pattern {}: {}, at character {}", quote(pattern_), what, at_));
  }
  bool next_is(char32_t c) const { return at_ < text_.size() && text_[at_] == c; }
  bool accept(char32_t c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }
  char32_t take() {
    if (at_ == text_.size()) fail("it ends too early");
    return text_[at_++];
  }

  GrammarPart alternatives() {
    std::vector<GrammarPart> parts;
    do parts.push_back(sequence());
    while (accept('|'));
    return g_.any_of(std::move(parts));
  }

  GrammarPart sequence() {
    std::vector<GrammarPart> parts;
    while (at_ < text_.size() && !next_is('|') && !next_is(')') && !next_is('$')) parts.push_back(repeated());
    return g_.sequence(std::move(parts));
  }

  GrammarPart repeated() {
    const GrammarPart part = atom();
    uint32_t least = 1, most = 1;
    if (accept('*'))
      least = 0, most = Grammar::kUnbounded;
    else if (accept('+'))
      most = Grammar::kUnbounded;
    else if (accept('?'))
      least = 0;
    else if (accept('{')) {
      least = most = number();
      if (accept(',')) most = next_is('}') ? Grammar::kUnbounded : number();
      if (!accept('}') || least > most) fail("expected {n}, {n,} or {n,m}");
    } else {
      return part;
    }
    accept('?');
    if (next_is('*') || next_is('+') || next_is('?') || next_is('{')) fail("a repetition of a repetition");
    if (least == 0 && most == 1) return g_.optional(part);
    return g_.repeat(part, least, most);
  }

  uint32_t number() {
    uint32_t value = 0;
    if (at_ == text_.size() || text_[at_] < '0' || text_[at_] > '9') fail("expected a number");
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = 10 * value + (take() - '0');
      if (value > kMostRepeats) fail(fmt::format("more than {} repetitions", kMostRepeats));
    }
    return value;
  }

  GrammarPart atom() {
    const char32_t c = take();
    switch (c) {
      case '(': return group();
      case '.': return json_.character(complement(kLineEnds));
      case '[': return json_.character(set_in_brackets());
      case '\\': return json_.character(escaped(false, false));
      case '^': --at_, fail("^ is taken only at the beginning of the pattern or of an alternative of it");
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']': --at_, fail("nothing to repeat or to close");
      default: return json_.character({{c, c}});
    }
  }

  GrammarPart group() {
    if (accept('?') && !accept(':')) fail("groups (?...) other than (?:...) are not supported");
    if (++nested_ > kMostNested) fail("too deeply nested");
    const GrammarPart part = alternatives();
    if (next_is('$')) fail("$ is taken only at the end of the pattern or of an alternative of it");
    if (!accept(')')) fail("a group is not closed");
    --nested_;
    return part;
  }

  CodePoints set_in_brackets() {
    const bool others = accept('^');
    CodePoints set;
    while (!accept(']')) {
      const CodePoints first = class_atom(others);
      if (next_is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        const CodePoints last = class_atom(others);
        if (!is_one(first) || !is_one(last) || first[0].first > last[0].first) fail("a range without order");
        set.emplace_back(first[0].first, last[0].first);
      } else {
        set.insert(set.end(), first.begin(), first.end());
      }
    }
    return others ? complement(set) : set;
  }
  static bool is_one(const CodePoints& set) { return set.size() == 1 && set[0].first == set[0].second; }
  CodePoints class_atom(bool others) {
    const char32_t c = take();
    if (c == '\\') return escaped(true, others);
    if (c == '[' && next_is(':')) fail("[: :] is not supported");
    return {{c, c}};
  }

  CodePoints escaped(bool in_brackets, bool others) {
    const char32_t c = take();
    switch (c) {
      case 'd': return kDigits;
      case 'D': return complement(kDigits);
      case 'w': return kWord;
      case 'W': return complement(kWord);
      case 's': return others ? kAnyBlank : kBlank;
      case 'S': return complement(others ? kBlank : kAnyBlank);
      case 'n': return {{'\n', '\n'}};
      case 't': return {{'\t', '\t'}};
      case 'r': return {{'\r', '\r'}};
      case 'f': return {{'\f', '\f'}};
      case 'v': return {{'\v', '\v'}};
      case '0': return {{0, 0}};
      case 'x': return hexadecimal(2);
      case 'u': return hexadecimal(4);
      case 'b':
        if (in_brackets) return {{'\b', '\b'}};
        [[fallthrough]];
      default: break;
    }
    if (c < 128 && (std::isalnum(static_cast<int>(c)) != 0)) {
      --at_;
      fail(fmt::format("\\{} is not supported", static_cast<char>(c)));
    }
    return {{c, c}};
  }

  CodePoints hexadecimal(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char32_t c = take();
      if (c >= 128 || std::isxdigit(static_cast<int>(c)) == 0) fail("expected a hexadecimal digit");
      value = 16 * value + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (value >= 0xd800 && value <= 0xdfff) fail("surrogates are not supported");
    return {{value, value}};
  }

  GrammarBuilder& g_;
  JsonGrammar json_;
  std::string_view pattern_;
  std::u32string text_;
  size_t at_ = 0;
  int nested_ = 0;
};

}  // namespace

GrammarPart pattern_grammar(GrammarBuilder& builder, std::string_view pattern) {
  return PatternReader(builder, pattern).whole();
}

}  // namespace lathe
