// Tool calls are found wherever the borders of an answer's pieces lie, and what is none stays text.
#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "serve/thinking.h"
#include "serve/tool_calls.h"
#include "serve/tool_grammar.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "text/grammar/grammar_matcher.h"

using namespace lathe;

namespace {

std::string shown(const ToolCallParser::Found& found) {
  std::string text = found.content;
  for (const ToolCall& call : found.calls) text += "|" + call.name + call.arguments;
  return text;
}

const ToolForm* form_named(std::string_view name) {
  const auto forms = tool_forms();
  const auto found = std::find_if(forms.begin(), forms.end(), [&](const ToolForm& form) { return form.name == name; });
  REQUIRE(found != forms.end());
  return &*found;
}

// In one piece, a byte at a time, and cut in two at every place.
void check_calls(std::string_view name, const std::string& answer, const std::string& expected,
                 const std::shared_ptr<const nlohmann::ordered_json>& tools = {}) {
  INFO(name << ": " << answer);
  const ToolForm* form = form_named(name);
  ToolCallParser bytes(form, tools);
  ToolCallParser::Found one_by_one;
  for (const char byte : answer) one_by_one += bytes.push({&byte, 1});
  one_by_one += bytes.finish();
  CHECK(shown(one_by_one) == expected);
  for (size_t cut = 0; cut <= answer.size(); ++cut) {
    ToolCallParser parser(form, tools);
    ToolCallParser::Found found = parser.push(answer.substr(0, cut));
    found += parser.push(answer.substr(cut));
    found += parser.finish();
    CHECK(shown(found) == expected);
  }
}

}  // namespace

TEST_CASE("calls as Hermes and Qwen write them") {
  const auto is = [](const std::string& answer, const std::string& expected) {
    check_calls("hermes", answer, expected);
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
    check_calls("llama", answer, expected);
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
    check_calls("mistral", answer, expected);
  };
  is("Hello [1]", "Hello [1]");
  is("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\", \"arguments\": {}}]",
     "|f{\"x\":1}|g{}");
  is("[TOOL_CALLS] nothing", "[TOOL_CALLS] nothing");
  check_calls("mistral_args", "Yes. [TOOL_CALLS]f[ARGS]{\"x\": 1}[TOOL_CALLS]g[ARGS]{}", "Yes.|f{\"x\": 1}|g{}");
  check_calls("mistral_args", "[TOOL_CALLS]f[ARGS]{\"x\"", "[TOOL_CALLS]f[ARGS]{\"x\"");
  check_calls("mistral_args", "[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{\"x\": 1}", "|f{\"x\": 1}");
}

TEST_CASE("calls in tags: texts as they are, all else as JSON") {
  const auto tools = std::make_shared<const nlohmann::ordered_json>(nlohmann::ordered_json::parse(
      R"([{"type": "function", "function": {"name": "f", "parameters": {"properties": {
        "s": {"type": "string"}, "n": {"type": "integer"}, "l": {"type": "array"}}}}}])"));
  check_calls(
      "xml",
      "Let me see.\n<tool_call>\n<function=f>\n<parameter=s>\n12\n</parameter>\n<parameter=n>\n12\n</parameter>\n"
      "<parameter=l>\n[1, \"a\"]\n</parameter>\n</function>\n</tool_call>",
      R"(Let me see.|f{"s":"12","n":12,"l":[1,"a"]})", tools);
  // Lines of a text stay, an unknown parameter is JSON where it can be, and what ends early is no call.
  check_calls("xml",
              "<tool_call>\n<function=g>\n<parameter=s>\n\n a\n\n</parameter>\n<parameter=t>\ntrue\n</parameter>\n"
              "</function>\n</tool_call>",
              R"(|g{"s":"\n a\n","t":true})", tools);
  check_calls("xml", "<tool_call>\n<function=f>\n<parameter=s>\n1", "<tool_call>\n<function=f>\n<parameter=s>\n1",
              tools);
  check_calls("xml",
              "<tool_call>\n<function=f>\n</function>\n</tool_call>\n<tool_call><function=g></function></tool_call>",
              "|f{}|g{}", tools);
  check_calls(
      "glm",
      "<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>1</arg_value>\n<arg_key>n</arg_key><arg_value>1</arg_value>"
      "</tool_call> done",
      R"(done|f{"s":"1","n":1})", tools);
  check_calls("glm", "<tool_call>f</tool_call>", "|f{}", tools);
  check_calls("glm", "<tool_call>f<arg_key>s</tool_call>", "<tool_call>f<arg_key>s</tool_call>", tools);
}

TEST_CASE("calls as Gemma, Cohere, gpt-oss and MiniMax write them") {
  check_calls("gemma",
              "<|tool_call>call:f{s:<|\"|>a, {b}<|\"|>,n:-1.5,l:[1,<|\"|>x<|\"|>],o:{<|\"|>k<|\"|>:true}}<tool_call|>"
              "<|tool_call>call:g{}<tool_call|>",
              R"(|f{"s":"a, {b}","n":-1.5,"l":[1,"x"],"o":{"k":true}}|g{})");
  for (const char* wrong : {"call:f", "call:f{s}", "call:f{s:1", "call:f{s:<|\"|>a}", "call:f{s:1} x", "f{}"}) {
    const std::string text = "<|tool_call>" + std::string(wrong) + "<tool_call|>";
    check_calls("gemma", text, text);
  }
  const std::string deep(1000, '[');
  check_calls("gemma", "<|tool_call>call:f{s:" + deep.substr(0, 70) + "<tool_call|>",
              "<|tool_call>call:f{s:" + deep.substr(0, 70) + "<tool_call|>");
  check_calls("cohere",
              "<|START_ACTION|>[\n {\"tool_call_id\": \"0\", \"tool_name\": \"f\", \"parameters\": {\"x\": 1}},\n"
              "{\"tool_call_id\": \"1\", \"tool_name\": \"g\", \"parameters\": {}}]<|END_ACTION|>",
              R"(|f{"x":1}|g{})");
  check_calls("harmony", " to=functions.f <|constrain|>json<|message|>{\"x\": 1}", R"(|f{"x": 1})");
  check_calls("harmony", "Written to=functions.f by hand", "Written to=functions.f by hand");
  check_calls("tool_calls",
              "<tool_calls>\n{\"name\": \"f\", \"arguments\": {\"x\": \"}\\\"{\"}}\n{\"name\": \"g\", "
              "\"arguments\": {}}\n</tool_calls>",
              R"(|f{"x":"}\"{"}|g{})");
}

TEST_CASE("the form of calls is what the template makes of one") {
  const auto form = [](const std::string& call) {
    const std::string source =
        "{% if tools %}{% endif %}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}" + call +
        "{% endfor %}{% endfor %}";
    const ToolForm* found = tool_form(source, {});
    return std::string(found ? found->name : "none");
  };
  CHECK(form("") == "none");
  CHECK(form("<tool_call>{{ c.function | tojson }}</tool_call>") == "hermes");
  CHECK(form("<tool_call>{ \"arguments\": {{ c.function.arguments | tojson }}, \"name\": \"{{ c.function.name }}\"}"
             "</tool_call>") == "hermes");
  CHECK(form("<tool_call>{{ c.function.name }}</tool_call>") == "none");
  CHECK(form("[TOOL_CALLS][{{ c.function | tojson }}]") == "mistral");
  CHECK(form("[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}") == "mistral_args");
  CHECK(form("{\"name\": \"{{ c.function.name }}\", \"parameters\": {{ c.function.arguments | tojson }}}") == "llama");
  CHECK(form("{{ raise_exception('no') }}") == "none");
  CHECK(form("<tool_call>{{ c.function.name }}<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>") ==
        "glm");
  CHECK(tool_form("{% for m in messages %}{{ m.tool_calls | tojson }}{% endfor %}", {}) == nullptr);
}

TEST_CASE("published templates: the calls they write are found again, and their thinking") {
  const auto shared = test::shared_dir();
  if (!shared || !std::filesystem::exists(*shared / "chat_templates"))
    return test::skip("needs ../shared/chat_templates");
  std::map<std::string, size_t> forms;
  size_t thinking = 0;
  const nlohmann::ordered_json parameters = {{"type", "object"},
                                             {"properties",
                                              {{"count", {{"type", "integer"}}},
                                               {"list", {{"type", "array"}, {"items", {{"type", "integer"}}}}},
                                               {"text", {{"type", "string"}}}}}};
  const nlohmann::ordered_json function = {{"name", "f"}, {"description", "d"}, {"parameters", parameters}};
  const nlohmann::ordered_json arguments = {{"count", -3}, {"list", {1, 2}}, {"text", "12 <b> \"q\" é\nline"}};
  std::set<std::string> spelled_otherwise;
  for (const auto& file : std::filesystem::directory_iterator(*shared / "chat_templates" / "templates")) {
    const std::string source = test::read_file(file.path());
    INFO(file.path().filename().string());
    thinking += !thinking_marks(source).end.empty();
    ChatTemplate::Inputs inputs;
    inputs.tools = nlohmann::ordered_json::array({{{"type", "function"}, {"function", function}}});
    inputs.variables = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    const ToolForm* form = tool_form(source, inputs);
    ++forms[form ? form->name : "none"];
    if (!form) continue;
    // What the template makes of a call, from its beginning on, is read as that call.
    inputs.add_generation_prompt = false;
    const nlohmann::ordered_json call = {
        {"id", "123456789"}, {"type", "function"}, {"function", {{"name", "f_of_this"}, {"arguments", arguments}}}};
    inputs.messages = {{{"role", "user"}, {"content", "x"}},
                       {{"role", "assistant"}, {"content", ""}, {"tool_calls", nlohmann::ordered_json::array({call})}}};
    const std::string text = ChatTemplate::parse(source).render(inputs);
    const std::string lead = std::string(form->begin) + (form->begin.empty() ? std::string(form->before_name) : "");
    const size_t begin = text.rfind(lead, text.rfind("f_of_this"));
    size_t end = form->end.empty() ? text.find_last_of("}]") + 1 : text.find(form->end, begin) + form->end.size();
    auto tools = inputs.tools;
    tools[0]["function"]["name"] = "f_of_this";
    ToolCallParser parser(form, std::make_shared<const nlohmann::ordered_json>(tools));
    ToolCallParser::Found found = parser.push(text.substr(begin, end - begin));
    found += parser.finish();
    INFO(text.substr(begin, end - begin));
    REQUIRE(found.calls.size() == 1);
    CHECK(found.calls[0].name == "f_of_this");
    CHECK(nlohmann::json::parse(found.calls[0].arguments) == nlohmann::json(arguments));
    // And is a call that must be made, spelled as the grammar has it.
    GrammarBuilder g;
    const auto as_it_is = [&](std::string_view part) { return g.text(part); };
    GrammarMatcher matcher(g.finish(call_grammar(g, *form, tools, as_it_is)), nullptr);
    if (!matcher.may_end(matcher.after(matcher.begin(), text.substr(begin, end - begin))))
      spelled_otherwise.insert(file.path().stem().string());
    CHECK(matcher.after(matcher.begin(), lead + "g").empty());
  }
  const std::map<std::string, size_t> expected = {
      {"cohere", 2}, {"function_call", 1}, {"gemma", 1},        {"glm", 4},        {"harmony", 1}, {"hermes", 8},
      {"llama", 2},  {"mistral", 1},       {"mistral_args", 2}, {"tool_calls", 2}, {"xml", 4}};
  for (const auto& [name, count] : expected) {
    INFO(name);
    CHECK(forms[name] == count);
  }
  CHECK(thinking == 24);
  // Line breaks between tags, ids, arguments ahead of the name, and what gpt-oss writes elsewhere in its own turns.
  CHECK(spelled_otherwise == std::set<std::string>{"Mistral-Small-3.2-24B-Instruct-2506", "inclusionai-ling-3.0-flash",
                                                   "mistralai-Mistral-Nemo-Instruct-2407", "openai-gpt-oss-120b",
                                                   "poolside-Laguna-XS-2.1", "unsloth-Apriel-1.5",
                                                   "vllm-tool_chat_template_hermes_2_pro"});
}
