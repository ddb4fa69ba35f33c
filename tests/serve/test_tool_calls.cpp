// Tool calls are found wherever the borders of an answer's pieces lie, and what is none stays text.
#include <fmt/core.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "serve/thinking.h"
#include "serve/tool_calls.h"
#include "tests/catch.h"
#include "tests/support.h"

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
  check_calls(ToolFormat::mistral_args, "[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{\"x\": 1}", "|f{\"x\": 1}");
}

TEST_CASE("the form of calls is what the template makes of one") {
  const auto form = [](const std::string& call) {
    const std::string source =
        "{% if tools %}{% endif %}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}" + call +
        "{% endfor %}{% endfor %}";
    return tool_format(source, {});
  };
  CHECK(form("") == ToolFormat::none);
  CHECK(form("<tool_call>{{ c.function | tojson }}</tool_call>") == ToolFormat::hermes);
  CHECK(form("<tool_call>{ \"arguments\": {{ c.function.arguments | tojson }}, \"name\": \"{{ c.function.name }}\"}"
             "</tool_call>") == ToolFormat::hermes);
  CHECK(form("<tool_call>{{ c.function.name }}</tool_call>") == ToolFormat::none);
  CHECK(form("[TOOL_CALLS][{{ c.function | tojson }}]") == ToolFormat::mistral);
  CHECK(form("[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}") == ToolFormat::mistral_args);
  CHECK(form("{\"name\": \"{{ c.function.name }}\", \"parameters\": {{ c.function.arguments | tojson }}}") ==
        ToolFormat::llama);
  CHECK(form("{{ raise_exception('no') }}") == ToolFormat::none);
  CHECK(tool_format("{% for m in messages %}{{ m.tool_calls | tojson }}{% endfor %}", {}) == ToolFormat::none);
}

TEST_CASE("published templates: the calls they write are found again, and their thinking") {
  const auto shared = test::shared_dir();
  if (!shared || !std::filesystem::exists(*shared / "chat_templates"))
    return test::skip("needs ../shared/chat_templates");
  std::map<ToolFormat, size_t> formats;
  size_t thinking = 0;
  for (const auto& file : std::filesystem::directory_iterator(*shared / "chat_templates" / "templates")) {
    const std::string source = test::read_file(file.path());
    INFO(file.path().filename().string());
    thinking += !thinking_marks(source).end.empty();
    ChatTemplate::Inputs inputs;
    const nlohmann::ordered_json parameters = {{"type", "object"}, {"properties", nlohmann::ordered_json::object()}};
    const nlohmann::ordered_json function = {{"name", "f"}, {"description", "d"}, {"parameters", parameters}};
    inputs.tools = nlohmann::ordered_json::array({{{"type", "function"}, {"function", function}}});
    inputs.variables = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    const ToolFormat format = tool_format(source, inputs);
    ++formats[format];
    if (format == ToolFormat::none) continue;
    // The turn as the texts round a call have it.
    const CallTexts texts = call_texts(format);
    ToolCallParser parser(format);
    ToolCallParser::Found found = parser.push(
        fmt::format("{}{}f{}{{}}{}{}", texts.mark, texts.before, texts.between, texts.behind, texts.end_mark));
    found += parser.finish();
    CHECK(shown(found) == "|f{}");
  }
  CHECK(formats[ToolFormat::hermes] == 8);
  CHECK(formats[ToolFormat::llama] == 2);
  CHECK(formats[ToolFormat::mistral] == 1);
  CHECK(formats[ToolFormat::mistral_args] == 2);
  CHECK(thinking == 23);
}
