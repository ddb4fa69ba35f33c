// Thinking is told from the answer wherever the borders of its pieces lie, stop strings within it too.
#include "generate/stop_strings.h"
#include "serve/thinking.h"
#include "tests/catch.h"

using namespace lathe;

namespace {

const std::string kQwen = "{% if '</think>' in content %}<think>{% endif %}";

struct ThinkingReader {
  ThinkingParser parser;
  StopStrings stops;
  std::string reasoning = {}, content = {};

  void add(const ThinkingParser::Found& found) {
    reasoning += found.reasoning;
    content += found.content;
  }
  void push(std::string_view piece) { add(parser.push(stops.push(piece))); }
  std::string finish() {
    add(parser.push(stops.finish()));
    add(parser.finish());
    return reasoning + "|" + content;
  }
};

// Every way to cut the text in three, and a byte at a time.
void check_thinking(const std::string& prompt, const std::string& answer, const std::string& expected,
                    const std::vector<std::string>& stops = {}, const std::string& source = kQwen) {
  INFO(answer);
  const auto reader = [&] { return ThinkingReader{{thinking_marks(source), prompt}, StopStrings(stops)}; };
  ThinkingReader bytes = reader();
  for (const char byte : answer) bytes.push({&byte, 1});
  CHECK(bytes.finish() == expected);
  bool same = true;
  for (size_t first = 0; first <= answer.size(); ++first)
    for (size_t second = first; second <= answer.size(); ++second) {
      ThinkingReader cut = reader();
      cut.push(answer.substr(0, first));
      cut.push(answer.substr(first, second - first));
      cut.push(answer.substr(second));
      same &= cut.finish() == expected;
    }
  CHECK(same);
}

}  // namespace

TEST_CASE("what frames an answer and its thinking is no part of them") {
  const auto is = [](const std::string& answer, const std::string& expected) {
    check_thinking("<|start|>assistant", answer, expected, {}, "<|channel|>analysis<|message|>...<|end|>");
  };
  is("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.", "Hm.|Yes.");
  is("<|channel|>final<|message|>Yes <|chan", "|Yes <|chan");
  is("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f {}",
     "Hm.| to=functions.f {}");
  is("<|channel|>commentary<|message|>One moment.<|end|><|start|>assistant to=functions.f<|channel|>commentary json",
     "|One moment. to=functions.f json");
  check_thinking("", "a<|end|>b", "|a<|end|>b", {}, "Phi's <|end|> ends a message");
}

TEST_CASE("thinking is told from the answer at every cut") {
  check_thinking("", "<think>\nWell, \n 2 < 3.\n</think>\n\nYes. \n", "Well, \n 2 < 3.|Yes. \n");
  check_thinking("", "\n<think>a</think>b", "a|b");
  check_thinking("", "\n\n<thin air", "|\n\n<thin air");
  check_thinking("", "a <think>b</think>", "|a <think>b</think>");  // it comes first or not at all
  check_thinking("", "<think>\n\n</think>\n\nHi", "|Hi");
  check_thinking("", "<think>it takes \n", "it takes|");  // the length ended it
  check_thinking("", "<think>a</thin", "a</thin|");
  check_thinking("", " \n", "| \n");
  check_thinking("assistant\n<think>\n", "a\n</think> b", "a|b");
  check_thinking("assistant\n<think>\n", "<think>a</think>b", "a|b");  // some write the mark again
  check_thinking("assistant\n<think>\n\n</think>\n\n", "b", "|b");
}

TEST_CASE("stop strings end an answer within its thinking as elsewhere") {
  check_thinking("", "<think>one two three</think>four", "one|", {" two"});
  check_thinking("", "<think>one</think>four five", "one|four", {" five", "fives"});
  check_thinking("", "<think>one</think>four", "one|", {"</think>"});
  check_thinking("", "<think>one</think>four", "on|", {"e</th", "e</think>f"});
  check_thinking("<think>", "aab</think>aac", "aab|", {"aac"});
}

TEST_CASE("the marks of thinking are the template's") {
  CHECK(thinking_marks("{{ message.content }}").end.empty());
  CHECK(thinking_marks(kQwen).begin == "<think>");
  CHECK(thinking_marks("<|START_THINKING|><|END_THINKING|>").end == "<|END_THINKING|>");
  ThinkingParser none({}, "<think>");
  CHECK(none.push("<think>a</think>").content == "<think>a</think>");
}
