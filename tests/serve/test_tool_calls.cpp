// Tool calls are found wherever the borders of an answer's pieces lie, and what is none stays text.
#include "serve/tool_calls.h"
#include "tests/catch.h"

using namespace lathe;

namespace {

std::string shown(const ToolCallParser::Found& found) {
  std::string text = found.content;
  for (const ToolCall& call : found.calls) text += "|" + call.name + call.arguments;
  return text;
}

// In one piece, a byte at a time, and cut in two at every place.
void check_calls(ToolFormat format, const std::string& answer, const std::string& expected) {
  INFO(answer);
  ToolCallParser bytes(format);
  ToolCallParser::Found one_by_one;
  for (const char byte : answer) one_by_one += bytes.push({&byte, 1});
  one_by_one += bytes.finish();
  CHECK(shown(one_by_one) == expected);
  for (size_t cut = 0; cut <= answer.size(); ++cut) {
    ToolCallParser parser(format);
    ToolCallParser::Found found = parser.push(answer.substr(0, cut));
    found += parser.push(answer.substr(cut));
    found += parser.finish();
    CHECK(shown(found) == expected);
  }
}

}  // namespace

TEST_CASE("calls as Hermes and Qwen write them") {
  const auto is = [](const std::string& answer, const std::string& expected) {
    check_calls(ToolFormat::hermes, answer, expected);
  };
  is("Hello, world. ", "Hello, world. ");
  is("a < b <tool", "a < b <tool");
  is("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>", "|f{\"x\":1}");
  is("Let me see.\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n<tool_call>{\"name\": \"g\", "
     "\"arguments\": "
     "{}}</tool_call>\n",
     "Let me see.|f{}|g{}");
  is("<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n\ndone ", "done |f{}");
  is("<tool_call>{\"name\": \"f\", \"arguments\": {}}", "|f{}");  // the end token came before the end of the call
  is("x <tool_call>{\"name\": 3}</tool_call> y", "x <tool_call>{\"name\": 3}</tool_call> y");
  is("x <tool_call>{\"name\":", "x <tool_call>{\"name\":");
}

TEST_CASE("calls as Llama writes them") {
  const auto is = [](const std::string& answer, const std::string& expected) {
    check_calls(ToolFormat::llama, answer, expected);
  };
  is("Hello {\"name\": \"f\"}", "Hello {\"name\": \"f\"}");
  is("{\"name\": \"f\", \"parameters\": {\"x\": \"a;b\"}}", "|f{\"x\":\"a;b\"}");
  is("<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {\"x\": \";\"}}",
     "|f{}|g{\"x\":\";\"}");
  is("{\"name\": \"f\"}", "{\"name\": \"f\"}");
  is("{ not JSON", "{ not JSON");
  is("", "");
}

TEST_CASE("calls as Mistral writes them") {
  const auto is = [](const std::string& answer, const std::string& expected) {
    check_calls(ToolFormat::mistral, answer, expected);
  };
  is("Hello [1]", "Hello [1]");
  is("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\", \"arguments\": {}}]",
     "|f{\"x\":1}|g{}");
  is("Yes. [TOOL_CALLS]f[ARGS]{\"x\": 1}[TOOL_CALLS]g[ARGS]{}", "Yes. |f{\"x\": 1}|g{}");
  is("[TOOL_CALLS] nothing", "[TOOL_CALLS] nothing");
}

TEST_CASE("the form of calls is the template's") {
  CHECK(tool_format("{% for m in messages %}{{ m.content }}{% endfor %}") == ToolFormat::none);
  CHECK(tool_format("{% if tools %}<tool_call>{% endif %}") == ToolFormat::hermes);
  CHECK(tool_format("{% if tools %}[TOOL_CALLS]{% endif %}") == ToolFormat::mistral);
  CHECK(tool_format("{% if tools %}{\"name\": , \"parameters\": }{% endif %}") == ToolFormat::llama);
}
