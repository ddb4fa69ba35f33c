// UTF-8 checking and repair, normal forms, and the translation of regular expressions.
#include <nlohmann/json.hpp>
#include <random>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/regex.h"
#include "text/unicode/unicode.h"
#include "text/unicode/unicode_scripts.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string repaired(std::string_view bytes, size_t cut) {
  Utf8Repair repair;
  std::string text = repair.push(bytes.substr(0, cut));
  text += repair.push(bytes.substr(cut));
  return text + repair.finish();
}

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

TEST_CASE("broken UTF-8 is repaired as Python's errors=\"replace\" does, wherever it is cut") {
  // The right sides are what bytes.decode("utf-8", "replace") returns.
  const std::vector<std::pair<std::string, std::string>> cases = {{"\xff", "\ufffd"},
                                                                  {"a\xc3(b", "a\ufffd(b"},
                                                                  {"\xe2\x82", "\ufffd"},
                                                                  {"\xf0\x9f\x98", "\ufffd"},
                                                                  {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
                                                                  {"\xc0\xaf", "\ufffd\ufffd"},
                                                                  {"\xf5\x80\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
                                                                  {"ok\x80\x80ok", "ok\ufffd\ufffdok"},
                                                                  {"\xf0\x9f\x98\x80\xf0\x9f", "\U0001f600\ufffd"},
                                                                  {"\xf0\x9f\x41",
                                                                   "\ufffd"
                                                                   "A"},
                                                                  {"\xe0\x9f\xbf", "\ufffd\ufffd\ufffd"},
                                                                  {"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
                                                                  {"\xef\xbf\xbe", "\xef\xbf\xbe"}};
  for (const auto& [bytes, text] : cases)
    for (size_t cut = 0; cut <= bytes.size(); ++cut) CHECK(repaired(bytes, cut) == text);
}

TEST_CASE("check_utf8 names the offset of the first broken byte") {
  CHECK_NOTHROW(check_utf8("plain, \u00e9, \u65e5\u672c, \U0001f600", "here"));
  CHECK_THROWS_WITH(check_utf8("abc\xc3(", "here"), ContainsSubstring("byte 0xc3 at offset 3"));
  CHECK_THROWS_WITH(check_utf8("abc\xe2\x82", "here"), ContainsSubstring("offset 3"));
}

TEST_CASE("normal forms") {
  CHECK(normalize("plain", NormalForm::nfc) == "plain");
  CHECK(normalize("e\u0301 A\u030a \u1112\u1161\u11ab", NormalForm::nfc) == "\u00e9 \u00c5 \ud55c");
  CHECK(normalize("\u00e9\ud55c", NormalForm::nfd) == "e\u0301\u1112\u1161\u11ab");
  CHECK(normalize("\ufb01 \u2460 \uff46", NormalForm::nfkc) == "fi 1 f");
  CHECK(normalize("\ufb01\u00e9", NormalForm::nfkd) == "fie\u0301");
  CHECK(normalize("a\u0301\u0323", NormalForm::nfd) == "a\u0323\u0301");  // canonical order
  // An ASCII letter composes with what follows it although the stretch before is copied.
  CHECK(normalize("xxxe\u0301xxx", NormalForm::nfc) == "xxx\u00e9xxx");
  std::string marks = "a";
  for (int i = 0; i < 100000; ++i) marks += i % 2 ? "\u0323" : "\u0301";
  CHECK(normalize(marks, NormalForm::nfd).size() == marks.size());  // in no time: the sort is n log n
}

TEST_CASE("lower case is by character") { CHECK(lowercase("\u0130\u03a3A\u00c9") == "i\u0307\u03c3a\u00e9"); }

TEST_CASE("categories and normal forms are those of the reference's Unicode versions") {
  CHECK(lowercase("\ua7dc\U00010d50") == "\u019b\U00010d70");      // Unicode 16
  CHECK(normalize("\u32ff", NormalForm::nfkc) == "\u32ff");        // a square era name of Unicode 12.1
  CHECK(normalize("\u337b", NormalForm::nfkc) == "\u5e73\u6210");  // one that was always there
  CHECK(is_nonspacing_mark_in_unicode_8(0x301));
  CHECK(!is_nonspacing_mark_in_unicode_8(0x1DFB));
  CHECK(is_nonspacing_mark_in_unicode_8(0x1734));
  CHECK(is_mark_in_unicode_9(0x1DFB));
  CHECK(!is_mark_in_unicode_9(0x898));
  CHECK(is_punctuation_in_unicode_8(0x166D));
  CHECK(!is_punctuation_in_unicode_8(0x2E52));
  CHECK(is_control_in_unicode_8(0xE000));
  CHECK(script_class('a') == script_class(0xE9));
  CHECK(script_class(0x3042) == script_class(0x4E00));
  CHECK(script_class(' ') == 0);
}

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

TEST_CASE("graphemes") {
  auto graphemes = [](std::string_view text) {
    std::vector<size_t> lengths;
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
      end = grapheme_end(text, begin);
      lengths.push_back(end - begin);
    }
    return lengths;
  };
  CHECK(graphemes("a\r\nb\n") == std::vector<size_t>{1, 2, 1, 1});
  CHECK(graphemes("e\u0301\u0323x") == std::vector<size_t>{5, 1});
  CHECK(graphemes("\U0001F1E9\U0001F1EA\U0001F1EB") == std::vector<size_t>{8, 4});
  CHECK(graphemes("\U0001F469\u200d\U0001F52C") == std::vector<size_t>{11});
}
