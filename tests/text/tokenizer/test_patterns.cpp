// The translation of regular expressions, and the pre-tokenisers that cut by them.
#include <nlohmann/json.hpp>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/regex.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<std::string> matches(const char* pattern, std::string_view text) {
  const Regex regex(pattern);
  Regex::Matches found(regex, text);
  std::vector<std::string> result;
  size_t begin = 0, end = 0;
  while (found.next(begin, end)) result.emplace_back(text.substr(begin, end - begin));
  return result;
}

std::vector<std::string> pieces(const PreTokenizer& pre_tokenizer, std::string_view text) {
  std::vector<std::string> result;
  pre_tokenizer.split({text, true}, [&](Piece piece) { result.emplace_back(piece.text); });
  return result;
}

}  // namespace

TEST_CASE("Oniguruma's classes, not PCRE2's") {
  CHECK(matches("\\s+", "a\u180eb \u00a0\u0085\u3000c") == std::vector<std::string>{" \u00a0\u0085\u3000"});
  CHECK(matches("[^\\s]+", "a \u180e") == std::vector<std::string>{"a", "\u180e"});
  CHECK(matches("\\w+", "e\u0301_9\u203f-\u2460") == std::vector<std::string>{"e\u0301_9\u203f"});
  CHECK(matches("\\h+", "xyzBEEF") == std::vector<std::string>{"BEEF"});
  CHECK(matches("\\p{N}{1,3}+", "1234567") == std::vector<std::string>{"1234567"});  // a repeat of a repeat
  CHECK(matches("(?:a|b){2}+c", "ababc") == std::vector<std::string>{"ababc"});
  CHECK(matches("^b$", "a\nb\nc") == std::vector<std::string>{"b"});
  CHECK(matches("(?m:a.b)", "a\nb") == std::vector<std::string>{"a\nb"});
  CHECK(matches("(?i:'s|'LL)", "'S 'll") == std::vector<std::string>{"'S", "'ll"});
  CHECK(matches("\\u00e9|\\x{41}",
                "\u00e9"
                "A") == std::vector<std::string>{"\u00e9", "A"});
  CHECK(matches("[]a]+", "]a]") == std::vector<std::string>{"]a]"});
  CHECK(matches("\\bfoo\\b", "foo foos foo\u0301 (foo)") == std::vector<std::string>{"foo", "foo"});
  CHECK(matches("x*", "xay") == std::vector<std::string>{"x", "", ""});  // none right behind a match
}

TEST_CASE("Oniguruma's brackets: nested, intersected, with classes inside") {
  using Strings = std::vector<std::string>;
  CHECK(matches("[a[b-d][0-9]]+", "xad7y") == Strings{"ad7"});
  CHECK(matches("[a-z&&[^aeiou]]+", "stream") == Strings{"str", "m"});
  CHECK(matches("[^a-z&&[^aeiou]]+", "strEAm") == Strings{"EA"});
  CHECK(matches("[a-z&&b-y&&[^m]]+", "abmyz") == Strings{"b", "y"});
  CHECK(matches("[\\W_]+", "a_-b") == Strings{"_-"});
  CHECK(matches("[^\\W\\d_]+", "ab_12c") == Strings{"ab", "c"});
  CHECK(matches("[^\\S\\n]+", "a \t\n b") == Strings{" \t", " "});
  CHECK(matches("[\\w-]+", "a-b c") == Strings{"a-b", "c"});
  CHECK(matches("[a-c-e]+", "abc-ed") == Strings{"abc-e"});
  CHECK(matches("[[:upper:]\\h]+", "xABf!") == Strings{"ABf"});
  CHECK(matches("[^[^a]]+", "baab") == Strings{"aa"});
  CHECK(matches("[\\p{L}&&[^\\p{Han}]]+", "ab\u4e00c") == Strings{"ab", "c"});
}

TEST_CASE("Oniguruma's options, repeats and properties") {
  using Strings = std::vector<std::string>;
  CHECK(matches("a(?i)b|c", "aB aC xc") == Strings{"aB", "aC"});  // the alternative belongs to (?i), behind the a
  CHECK(matches("a{2}?b", "aab b") == Strings{"aab", "b"});
  CHECK(matches("a{,2}b", "aaab") == Strings{"aab"});
  CHECK(matches("(?x) a  b # comment [", "ab") == Strings{"ab"});
  CHECK(matches("a(?#note)b", "ab") == Strings{"ab"});
  CHECK(matches("\\p{Letter}+|\\p{^Alpha}", "ab1") == Strings{"ab", "1"});
  CHECK(matches("\\p{Han}+", "\u4e00\u3001\u4e8c") == Strings{"\u4e00", "\u4e8c"});  // a script, not what goes with it
  CHECK(matches("\\p{So}+", "\U0001FAE8\U0001FA75x") == Strings{"\U0001FAE8\U0001FA75"});  // Unicode 15
  CHECK(matches("\\w+", "x\u00b2") == Strings{"x\u00b2"});
  CHECK(matches("[\\w]+", "x\u00b2") == Strings{"x"});
  CHECK(matches("\\v", "\v\n") == Strings{"\v"});
}

TEST_CASE("patterns that cannot be kept exact are refused by name") {
  CHECK_THROWS_WITH(Regex("\\X"), ContainsSubstring("\\X"));
  CHECK_THROWS_WITH(Regex("\\y"), ContainsSubstring("\\y"));
  CHECK_THROWS_WITH(Regex("(?~a)"), ContainsSubstring("absent operator"));
  CHECK_THROWS_WITH(Regex("(*FAIL)"), ContainsSubstring("callout"));
  CHECK_THROWS_WITH(Regex("(?W:a)"), ContainsSubstring("option other than"));
  CHECK_THROWS_WITH(Regex("\\xff"), ContainsSubstring("no character"));
  CHECK_THROWS_WITH(Regex("\\x{110000}"), ContainsSubstring("no character"));
  CHECK_THROWS_WITH(Regex("\\p{In_Arrows}"), ContainsSubstring("does not compile"));
  CHECK_THROWS_WITH(Regex("[[:odd:]]"), ContainsSubstring("unknown POSIX class"));
  CHECK_THROWS_WITH(Regex("[z-a]"), ContainsSubstring("backwards"));
  for (const char* cut : {"[a", "[a[b]", "a\\", "[\\", "\\p{L", "[[:alpha:", "(?<n", "(?i", "a)", "(?(1", "\\k<x"})
    CHECK_THROWS_AS(Regex(cut), Error);
  CHECK_THROWS_AS(Regex(std::string(100000, '[')), Error);
  CHECK_THROWS_AS(Regex(std::string(100000, '(')), Error);
  CHECK_THROWS_WITH(Regex("(a"), ContainsSubstring("does not compile"));
  CHECK_THROWS_WITH(Regex("\xff"), ContainsSubstring("UTF-8"));
}

TEST_CASE("a pattern that backtracks without end stops with an error") {
  CHECK_THROWS_AS(matches("(?:a|a)*\\z", std::string(64, 'a') + "!"), Error);
}

TEST_CASE("split behaviours") {
  using Strings = std::vector<std::string>;
  auto split = [](SplitBehavior behavior, bool invert = false) {
    return pieces(*make_split(Regex("-", Regex::Syntax::literal), behavior, invert), "the-final--countdown");
  };
  // The examples of the documentation of `tokenizers`.
  CHECK(split(SplitBehavior::removed) == Strings{"the", "final", "countdown"});
  CHECK(split(SplitBehavior::isolated) == Strings{"the", "-", "final", "-", "-", "countdown"});
  CHECK(split(SplitBehavior::merged_with_previous) == Strings{"the-", "final-", "-", "countdown"});
  CHECK(split(SplitBehavior::merged_with_next) == Strings{"the", "-final", "-", "-countdown"});
  CHECK(split(SplitBehavior::contiguous) == Strings{"the", "-", "final", "--", "countdown"});
  CHECK(split(SplitBehavior::removed, true) == Strings{"-", "-", "-"});
}

TEST_CASE("pre-tokenisers from JSON") {
  using Strings = std::vector<std::string>;
  auto run = [](const char* text, std::string_view input) {
    const auto json = nlohmann::json::parse(text);
    return pieces(*make_pre_tokenizer(JsonNode(json, "test")), input);
  };
  CHECK(run(R"({"type": "ByteLevel", "add_prefix_space": true})", "a\u00e9 b") == Strings{"\u0120a\u00c3\u00a9",
                                                                                          "\u0120"
                                                                                          "b"});
  CHECK(run(R"({"type": "Metaspace", "replacement": "▁"})", "a  b") == Strings{"▁a", "▁", "▁b"});
  CHECK(run(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": false})", "a b") ==
        Strings{"a▁b"});
  CHECK(run(R"({"type": "Digits", "individual_digits": true})", "a12\u00bd") == Strings{"a", "1", "2", "\u00bd"});
  CHECK(run(R"({"type": "Digits"})", "a12b") == Strings{"a", "12", "b"});
  CHECK(run(R"({"type": "Punctuation"})", "a,$\u3002b") == Strings{"a", ",", "$", "\u3002", "b"});
  CHECK(run(R"({"type": "Whitespace"})", "Hey, you\u0301 2") == Strings{"Hey", ",", "you\u0301", "2"});
  CHECK(run(R"({"type": "WhitespaceSplit"})", " a, b ") == Strings{"a,", "b"});
  CHECK(run(R"({"type": "BertPreTokenizer"})", "a, b") == Strings{"a", ",", "b"});
  CHECK(run(R"({"type": "CharDelimiterSplit", "delimiter": "|"})", "a||b") == Strings{"a", "b"});
  // What belongs to no script stays with the piece before it; at the start it is lost.
  CHECK(run(R"({"type": "UnicodeScripts"})", " ab \u3042\u30a2\u4e00 \u0431.") ==
        Strings{"ab ", "\u3042\u30a2\u4e00 ", "\u0431", "."});
  CHECK(run(R"({"type": "FixedLength", "length": 2})",
            "a\u00e9"
            "bcd") == Strings{"a\u00e9", "bc", "d"});
  CHECK(run(R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Digits"}]})", "a1 b2") ==
        Strings{"a", "1", "b", "2"});
  CHECK_THROWS_WITH(run(R"({"type": "Foo"})", "a"),
                    ContainsSubstring("test: pre_tokenizer type 'Foo' is not supported"));
  CHECK_THROWS_WITH(run(R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Removed", "invert": false})", "a"),
                    ContainsSubstring("test.pattern: regex"));
  CHECK_THROWS_WITH(run(R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd", "invert": false})", "a"),
                    ContainsSubstring("behavior 'Odd' is not known"));
}
