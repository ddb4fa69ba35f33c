// Grammars put together by hand, and the masks of tokens that follow from them.
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/text/grammar/grammar_texts.h"
#include "text/grammar/grammar.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/pattern_grammar.h"

using namespace lathe;
using namespace lathe::test;

namespace {

GrammarMatcher matcher_of(std::shared_ptr<const Grammar> grammar) { return {std::move(grammar), json_vocabulary()}; }

GrammarMatcher pattern_matcher(std::string_view pattern) {
  GrammarBuilder g;
  return matcher_of(g.finish(pattern_grammar(g, pattern)));
}

std::vector<std::string> allowed_texts(GrammarMatcher& matcher, const GrammarMatcher::State& state) {
  std::vector<std::string> texts;
  const std::vector<uint32_t> bits = matcher.allowed(state);
  for (int32_t t = 0; t < static_cast<int32_t>(json_vocabulary()->size()); ++t)
    if ((bits[static_cast<size_t>(t) / 32] >> t % 32 & 1) != 0) texts.push_back(json_vocabulary()->bytes(t));
  return texts;
}

}  // namespace

TEST_CASE("texts, sequences, choices and repetitions match what they say, from the first byte to the last") {
  GrammarBuilder g;
  GrammarMatcher m =
      matcher_of(g.finish(g.sequence({g.text("a"), g.repeat(g.any_of({g.text("bc"), g.text("bd")}), 1, 2),
                                      g.optional(g.bytes('x', 'z')), g.one_of({"", "q", "qrs"})})));
  for (const char* right : {"abc", "abdbc", "abcx", "abcbdzqrs", "abcq"}) CHECK(accepts(m, right));
  for (const char* wrong : {"", "a", "ab", "bc", "abcbcbc", "abcxx", "abcqr", "abcqrst", "abcw"})
    CHECK(!accepts(m, wrong));
}

TEST_CASE("a grammar that no finite text satisfies is refused, and so is a repetition of nothing") {
  GrammarBuilder g;
  const GrammarPart endless = g.rule();
  g.define(endless, g.sequence({g.text("["), endless}));
  CHECK_THROWS_AS(g.finish(endless), Error);
  CHECK_THROWS_AS(g.finish(g.any_of({})), Error);
  CHECK_THROWS_AS(g.repeat(g.optional(g.text("a")), 0), Error);
  GrammarMatcher m = matcher_of(g.finish(g.any_of({endless, g.text("b")})));  // no way into what has no end
  CHECK(allowed_texts(m, m.begin()) == std::vector<std::string>{"b"});
}

TEST_CASE("a mask allows whole tokens that fit, across the ends of rules, and special tokens where they are named") {
  GrammarBuilder g;
  const GrammarPart schema =
      json_schema(g, {{"type", "object"}, {"properties", {{"name", {{"type", "string"}}}}}}, "s");
  GrammarMatcher m = matcher_of(g.finish(g.sequence({g.token("<call>"), schema})));
  CHECK(allowed_texts(m, m.begin()) == std::vector<std::string>{"<", "\xFF<call>"});
  auto state = m.after(m.begin(), "\xFF<call>");
  CHECK(state == m.after(m.begin(), "<call>"));
  CHECK(allowed_texts(m, state) == std::vector<std::string>{"{", "{\"", "{}"});
  state = m.after(state, "{\"");
  CHECK(allowed_texts(m, state) == std::vector<std::string>{"n", "name", "nam"});
  state = m.after(state, "name\":\"");
  const std::vector<std::string> in_string = allowed_texts(m, state);
  const auto has = [&](const char* text) {
    return std::find(in_string.begin(), in_string.end(), text) != in_string.end();
  };
  for (const char* right : {"\"}", "\"", "a", " the", "\\u", "\\n", "\xC3", "\xC3\xA9", "\xF0\x9F", "call", "]}"})
    CHECK(has(right));
  for (const char* wrong :
       {"\",", "\": \"", "\"]", "\n ", "\n", "\x80", "\xFF", "\xC0", "\xE2\x82\xAC\"\"", "\xFF<call>"})
    CHECK(!has(wrong));
  CHECK(has("\xE2\x82\xAC\""));
  state = m.after(state, "\"");
  CHECK(!m.may_end(state));
  CHECK(m.must_end(m.after(state, "}")));
  CHECK(allowed_texts(m, m.after(state, "}")).empty());
}

TEST_CASE("a grammar that begins after a mark leaves free what stands before, and not the tokens that hold both") {
  GrammarBuilder g;
  GrammarMatcher m =
      matcher_of(g.finish(g.sequence({g.up_to("</think>"), g.repeat(g.text("\n"), 0, 2), g.text("{\"name\": 1}")})));
  for (const char* right : {"</think>{\"name\": 1}", "so</think>\n\n{\"name\": 1}", "<</think>\n{\"name\": 1}",
                            "</thin</think>{\"name\": 1}", "\x80\xFF<call></think>{\"name\": 1}"})
    CHECK(accepts(m, right));
  for (const char* wrong :
       {"{\"name\": 1}", "</think>", "</think>\n\n\n{\"name\": 1}", "</think>x", "</think></think>{\"name\": 1}"})
    CHECK(!accepts(m, wrong));
  size_t all = 0;  // but what has byte 0xFF, or no bytes
  for (int32_t t = 0; t < static_cast<int32_t>(json_vocabulary()->size()); ++t)
    all += !json_vocabulary()->bytes(t).empty();
  CHECK(allowed_texts(m, m.begin()).size() == all);
  const std::vector<std::string> last = allowed_texts(m, m.after(m.begin(), "</thin"));
  CHECK(std::find(last.begin(), last.end(), "k>\n\n{") != last.end());
  const std::vector<std::string> behind = allowed_texts(m, m.after(m.begin(), "</think>"));
  CHECK(behind == std::vector<std::string>{"\n", "{", "{\""});
}

TEST_CASE("patterns are anchored where they say so, and count what they repeat") {
  struct Case {
    const char* pattern;
    std::vector<const char*> right, wrong;
  };
  const Case cases[] = {
      {"^ab+c?$", {"ab", "abbb", "abc"}, {"a", "xab", "abcc", ""}},
      {"b",
       {"b", "abc", "bb",
        "\xC3\xA9"
        "b"},
       {"", "a"}},
      {"^a|b$", {"a", "ax", "xb", "b"}, {"xa", "bx", ""}},
      {"^(a|bc){2,3}$", {"aa", "abc", "bcbcbc"}, {"a", "aaaa", "bbc"}},
      {"^[a-cx][^a-c]$", {"ad", "xx", "b\xC3\xA9"}, {"ab", "dd", "x"}},
      {"^\\d{3}-\\w*?\\s$", {"123-ab_9 ", "000- "}, {"12-a ", "123-a", "123-\xC3\xA9 "}},
      {"^[^\\S]$", {" "}, {"\xC2\x85", "a"}},
      {"^\\D\\W\\S$", {"a-b"}, {"1-b", "aab", "a- ", "a-\xC2\xA0"}},
      {"^.$", {"a", "\xF0\x9F\x98\x80", "\\\"", "\\\\"}, {"", "aa", "\\n", "\"", "\\"}},
      {"^\\u00e9\\x41\\.\\/$",
       {"\xC3\xA9"
        "A./"},
       {"eA./"}},
      {"^[\\]\\-a-]+$", {"]-a"}, {"b"}},
      {"^(?:\\n|\\t)$", {"\\n", "\\t"}, {"\n", "\\\\n"}},
  };
  for (const Case& c : cases) {
    GrammarMatcher m = pattern_matcher(c.pattern);
    INFO(c.pattern);
    check_texts(m, c.right, c.wrong);
  }
  for (const char* refused : {"(?=a)b", "(?<n>a)", "a\\b", "\\1", "\\p{L}", "(a", "a)", "[a", "*a", "a**", "a{2,1}",
                              "a$b", "(^a)", "[b-a]", "a{1000000}", "(a?)*", "\\", "[[:alpha:]]", "\\ud800"}) {
    INFO(refused);
    CHECK_THROWS_AS(pattern_matcher(refused), Error);
  }
}

TEST_CASE("ways to read a text that multiply end with an error, never with a wait") {
  GrammarBuilder g;
  std::vector<GrammarPart> same;
  for (int i = 0; i < 6; ++i) {
    const GrammarPart inner = g.rule();
    g.define(inner, g.sequence({g.text("["), g.any_of({inner, g.text(std::string(1, static_cast<char>('a' + i)))})}));
    same.push_back(inner);
  }
  const GrammarPart any = g.rule();
  for (int i = 0; i < 6; ++i)
    same.push_back(g.sequence({g.text("["), any, g.text(std::string(1, static_cast<char>('a' + i)))}));
  g.define(any, g.any_of(same));
  GrammarMatcher m = matcher_of(g.finish(any));
  auto state = m.begin();
  CHECK_THROWS_AS(
      [&] {
        for (int i = 0; i < 64; ++i) state = m.after(state, "[");
      }(),
      Error);
}
