#include "text/tokenizer/oniguruma.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "formats/quote.h"
#include "tensor/errors.h"
#include "text/tokenizer/character_set.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

// Rewrites one pattern from left to right.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    groups_.push_back({});
    while (at_ < in_.size()) step();
    close_options();
    return std::move(out_);
  }

 private:
  struct Group {
    size_t begin = 0;       // where it begins in the output
    size_t options = 0;     // groups that (?i) opened inside it and that end with it
    bool extended = false;  // white space and comments do not count
  };
  static constexpr size_t kMaxDepth = 200;

  [[noreturn]] void refuse(const char* construct) const {
    throw Error(fmt::format("regex: {} at offset {} of pattern {} is not supported", construct, at_, quote(in_)));
  }
  [[noreturn]] void fail(const char* message) const {
    throw Error(fmt::format("regex: {} at offset {} of pattern {}", message, at_, quote(in_)));
  }

  bool looking_at(std::string_view text) const { return in_.substr(at_, text.size()) == text; }
  bool skip(std::string_view text) {
    if (!looking_at(text)) return false;
    at_ += text.size();
    return true;
  }
  // What lies before the next `end`, and moves behind it.
  std::string_view until(std::string_view end) {
    const size_t close = in_.find(end, at_);
    if (close == std::string_view::npos) fail("a construct without its end");
    const std::string_view inside = in_.substr(at_, close - at_);
    at_ = close + end.size();
    return inside;
  }
  void atom(const std::string& text) {
    atom_ = out_.size();
    out_ += text;
  }

  void step() {
    const char c = in_[at_];
    const bool extended = groups_.back().extended;
    if (extended && (c == ' ' || (c >= '\t' && c <= '\r'))) {
      ++at_;
    } else if (extended && c == '#') {
      at_ = std::min(in_.find('\n', at_), in_.size());
    } else if (c == '\\') {
      escape();
    } else if (c == '[') {
      ++at_;
      atom(bracket(1).spelled());
    } else if (c == '(') {
      open_group();
    } else if (c == ')') {
      close_group();
    } else if (c == '{') {
      interval();
    } else if (c == '*' || c == '+' || c == '?' || c == '|' || c == '^' || c == '$' || c == '.') {
      if (c == '.') atom_ = out_.size();
      out_ += c;
      ++at_;
    } else {
      atom(spelled_character(next_character(in_, at_)));
    }
  }

  // A character that a backslash spells, here behind it. Nothing for one that means something else.
  std::optional<char32_t> spelled_out() {
    const char c = in_[at_];
    constexpr std::string_view kNames = "tnrfvae";
    constexpr std::string_view kMeant = "\t\n\r\f\v\a\x1B";
    if (const size_t name = kNames.find(c); name != std::string_view::npos) {
      ++at_;
      return kMeant[name];
    }
    if (skip("x{")) return number(until("}"), 16);
    if (c == 'x' || c == 'u') {
      const size_t digits = c == 'x' ? 2 : 4;
      const std::string_view text = in_.substr(at_ + 1, digits);
      at_ += 1 + text.size();
      const char32_t value = number(text, 16);
      if (c == 'x' && value >= 0x80) refuse("a byte that is no character");
      return value;
    }
    if (c == 'c' && at_ + 1 < in_.size()) {
      at_ += 2;
      return static_cast<char32_t>(in_[at_ - 1] & 0x1F);
    }
    if (c == '0') {
      const size_t end = std::min(in_.find_first_not_of("01234567", at_), std::min(at_ + 3, in_.size()));
      const std::string_view text = in_.substr(at_, end - at_);
      at_ = end;
      return number(text, 8);
    }
    const bool letter_or_digit = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (letter_or_digit) return std::nullopt;
    return next_character(in_, at_);
  }

  char32_t number(std::string_view digits, uint32_t base) const {
    uint32_t value = 0;
    bool good = !digits.empty() && digits.size() <= 8;
    for (size_t i = 0; good && i < digits.size(); ++i) {
      const char c = digits[i];
      const uint32_t digit = c >= '0' && c <= '9'   ? static_cast<uint32_t>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<uint32_t>(c - 'a') + 10
                             : c >= 'A' && c <= 'F' ? static_cast<uint32_t>(c - 'A') + 10
                                                    : base;
      value = value * base + digit;
      good = digit < base && value <= 0x10FFFF;
    }
    if (!good || (value >= 0xD800 && value < 0xE000)) fail("a number that is no character");
    return value;
  }

  // \w, \P{..} and their kin, here behind the backslash.
  std::optional<CharacterSet> class_escape() {
    const char c = in_[at_];
    const bool upper = c >= 'A' && c <= 'Z';
    std::optional<CharacterSet> set;
    if (skip("p{") || skip("P{")) {
      set = CharacterSet::property(until("}"));
    } else {
      set = CharacterSet::shorthand(upper ? static_cast<char>(c - 'A' + 'a') : c);
      if (set) ++at_;
    }
    if (set && upper) set->negate();
    return set;
  }

  void escape() {
    if (++at_ == in_.size()) fail("a backslash at the end");
    const size_t begin = at_;
    if (auto set = class_escape()) {
      const std::string_view name = in_.substr(begin, at_ - begin);
      const bool word = name == "w" || name == "W" || name == "p{Word}" || name == "P{Word}" || name == "p{^Word}";
      if (word) set = latin_word(name == "W" || name == "P{Word}" || name == "p{^Word}");
      return atom(set->spelled());
    }
    if (auto character = spelled_out()) return atom(spelled_character(*character));
    const char c = in_[at_++];
    const std::string word = latin_word(false).spelled();
    switch (c) {
      case 'b': return atom("(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))");
      case 'B': return atom("(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))");
      case 'O': return atom("(?s:.)");
      case 'k':
      case 'g':
        if (skip("<")) return atom(fmt::format("\\{}<{}>", c, until(">")));
        if (skip("'")) return atom(fmt::format("\\{}'{}'", c, until("'")));
        break;
      case 'A':
      case 'z':
      case 'Z':
      case 'G':
      case 'K':
      case 'R':
      case 'N': return atom(std::string("\\") + c);
      default:
        if (c >= '1' && c <= '9') return atom(std::string("\\") + c);
    }
    --at_;
    refuse(fmt::format("\\{}", c).c_str());
  }

  // Outside brackets Oniguruma counts the superscript digits and fractions of Latin-1 as word characters.
  static CharacterSet latin_word(bool negated) {
    CharacterSet set = *CharacterSet::shorthand('w');
    set.add(0xB2, 0xB3);
    set.add(0xB9);
    set.add(0xBC, 0xBE);
    if (negated) set.negate();
    return set;
  }

  // A bracket, here behind its [.
  CharacterSet bracket(size_t depth) {
    if (depth > kMaxDepth) refuse("a bracket nested so deep");
    const bool negated = skip("^");
    std::vector<CharacterSet> operands(1);
    if (skip("]")) operands.back().add(']');  // one that comes first stands for itself
    while (!skip("]")) {
      if (at_ >= in_.size()) fail("a bracket without its end");
      if (skip("&&")) {
        operands.emplace_back();
      } else if (skip("[:")) {
        operands.back().add(posix_class());
      } else if (skip("[")) {
        operands.back().add(bracket(depth + 1));
      } else {
        add_item(operands.back());
      }
    }
    CharacterSet set = CharacterSet::intersection(operands);
    if (negated) set.negate();
    return set;
  }

  CharacterSet posix_class() {
    const bool negated = skip("^");
    auto set = CharacterSet::posix(until(":]"));
    if (!set) fail("an unknown POSIX class");
    if (negated) set->negate();
    return *set;
  }

  // One character of a bracket, or a class.
  std::optional<char32_t> item(std::optional<CharacterSet>& set) {
    if (!skip("\\")) return next_character(in_, at_);
    if (at_ == in_.size()) fail("a backslash at the end");
    if ((set = class_escape())) return std::nullopt;
    if (skip("b")) return 0x08;
    if (auto character = spelled_out()) return character;
    refuse(fmt::format("\\{} in a bracket", in_[at_]).c_str());
  }

  void add_item(CharacterSet& to) {
    std::optional<CharacterSet> set;
    const auto first = item(set);
    if (!first) return to.add(*set);
    const bool ranges = looking_at("-") && at_ + 1 < in_.size() && in_[at_ + 1] != ']' && in_[at_ + 1] != '[' &&
                        in_.substr(at_ + 1, 2) != "&&";
    if (!ranges) return to.add(*first);
    ++at_;
    const auto last = item(set);
    if (last && *last < *first) fail("a range that runs backwards");
    if (last) return to.add(*first, *last);
    to.add(*first);
    to.add('-');
    to.add(*set);
  }

  void open_group() {
    if (looking_at("(*")) refuse("a callout (*");
    if (skip("(?#")) return static_cast<void>(until(")"));
    if (groups_.size() > kMaxDepth) refuse("a group nested so deep");
    Group group{out_.size(), 0, groups_.back().extended};
    ++at_;
    out_ += '(';
    if (skip("?")) {
      if (looking_at("~")) refuse("an absent operator (?~");
      if (looking_at("{")) refuse("a callout (?{");
      out_ += '?';
      if (skip("(")) {  // a condition: another pair of parentheses follows
        out_.append("(").append(until(")")).append(")");
      } else if (skip("<=") || skip("<!")) {
        out_.append("<").push_back(in_[at_ - 1]);
      } else if (skip("<")) {
        out_.append("<").append(until(">")).append(">");
      } else if (skip("'")) {
        out_.append("'").append(until("'")).append("'");
      } else if (skip(":") || skip("=") || skip("!") || skip(">")) {
        out_ += in_[at_ - 1];
      } else if (!options(group)) {
        return;  // they hold to the end of the group that is already open
      }
    }
    groups_.push_back(group);
  }

  // The options of (?i:..) or (?i). What Ruby calls m (the dot matches a line feed) is s in PCRE2; x is done here. The
  // latter form holds to the end of the group, alternatives and all. False for that form.
  bool options(Group& group) {
    bool off = false;
    for (; at_ < in_.size() && in_[at_] != ':' && in_[at_] != ')'; ++at_) {
      const char c = in_[at_];
      if (c != 'i' && c != 'm' && c != 'x' && c != '-') refuse("an option other than i, m and x");
      if (c == '-') off = true;
      if (c == 'x') group.extended = !off;
      if (c != 'x') out_ += c == 'm' ? 's' : c;
    }
    if (at_ == in_.size()) fail("a group without its end");
    out_ += ':';
    if (in_[at_++] == ':') return true;
    groups_.back().extended = group.extended;
    ++groups_.back().options;
    atom_ = out_.size();
    return false;
  }

  void close_options() { out_.append(groups_.back().options, ')'); }
  void close_group() {
    if (groups_.size() == 1) fail("a closing parenthesis without its opening");
    close_options();
    atom_ = groups_.back().begin;
    groups_.pop_back();
    ++at_;
    out_ += ')';
  }

  // {n}, {n,}, {n,m} and {,m}.
  void interval() {
    const size_t end = in_.find_first_not_of("0123456789,", at_ + 1);
    const std::string_view inside = end == std::string_view::npos ? "" : in_.substr(at_ + 1, end - at_ - 1);
    const size_t comma = inside.find(',');
    const bool valid =
        !inside.empty() && inside != "," && in_[end] == '}' && inside.find(',', comma + 1) == inside.npos;
    if (!valid) {  // a brace that stands for itself
      ++at_;
      return atom("\\{");
    }
    out_.append("{").append(comma == 0 ? "0" : "").append(inside).append("}");
    at_ = end + 1;
    const bool fixed = comma == std::string_view::npos;
    if (looking_at("+") || (fixed && looking_at("?"))) {  // in PCRE2 possessive and lazy; here, the whole repeated
      out_.insert(atom_, "(?:");
      out_.append(")").push_back(in_[at_++]);
    }
  }

  std::string_view in_;
  std::string out_;
  size_t at_ = 0;
  size_t atom_ = 0;  // where the atom that a quantifier repeats begins in the output
  std::vector<Group> groups_;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace lathe
