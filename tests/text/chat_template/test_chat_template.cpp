// Whole chat templates: two written in the manner of published ones, inputs, and all of ../shared/chat_templates.
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "text/chat_template/chat_template.h"

using lathe::ChatTemplate;
using lathe::Error;
using nlohmann::ordered_json;

namespace {

// Turns between markers, and a system message of its own where the conversation has none.
constexpr const char* marked_turns = R"({% for message in messages %}
{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{% endif %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})";

// A header before each turn, a date, tools in the first user turn, and a system message that is taken out first.
constexpr const char* headed_turns = R"({{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- set ns = namespace(tools_done=tools is none) %}

{#- The system message comes first. #}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" ~ "Today: " ~ date_string ~ "\n\n" ~ system ~ "<|eot_id|>" }}
{%- for message in messages %}
    {%- if message.role not in ('user', 'assistant', 'tool') %}
        {{- raise_exception("unknown role " ~ message.role) }}
    {%- endif %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}
    {%- if message.role == 'user' and not ns.tools_done %}
        {%- for tool in tools %}{{ tool | tojson(indent=2) }}
{% endfor %}
        {%- set ns.tools_done = true %}
    {%- endif %}
    {%- if message.tool_calls is defined %}
        {%- for call in message.tool_calls %}
            {{- {"name": call.function.name, "parameters": call.function.arguments} | tojson }}
        {%- endfor %}
    {%- else %}
        {{- message.content | trim }}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
)";

ChatTemplate::Inputs inputs_of(const char* messages) {
  ChatTemplate::Inputs inputs;
  inputs.messages = ordered_json::parse(messages);
  inputs.now = "2024-07-26T09:05:03";
  return inputs;
}

std::string error_of(const ChatTemplate& chat_template, const ChatTemplate::Inputs& inputs) {
  try {
    return "no error, but: " + chat_template.render(inputs);
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("turns between markers") {
  const ChatTemplate chat_template = ChatTemplate::parse(marked_turns);
  auto inputs = inputs_of(R"([{"role": "user", "content": "Hi <|im_end|> 👋"}])");
  const std::string conversation =
      "<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\nHi <|im_end|> 👋<|im_end|>\n";
  CHECK(chat_template.render(inputs) == conversation + "<|im_start|>assistant\n");
  inputs.add_generation_prompt = false;
  CHECK(chat_template.render(inputs) == conversation);
  CHECK(chat_template.render(inputs) == conversation);  // nothing is left from the render before

  inputs = inputs_of(R"([{"role": "system", "content": "S"}, {"role": "user", "content": "U"},
                         {"role": "assistant", "content": "A"}])");
  inputs.add_generation_prompt = false;
  CHECK(chat_template.render(inputs) ==
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n");
}

TEST_CASE("turns with headers, a date and tools") {
  const ChatTemplate chat_template = ChatTemplate::parse(headed_turns);
  auto inputs = inputs_of(R"([{"role": "system", "content": " S "}, {"role": "user", "content": "Zürich?"},
      {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"city": "Zürich", "n": 1.0}}}]},
      {"role": "tool", "content": "\n21 °C\n"}])");
  inputs.variables["bos_token"] = "<|begin_of_text|>";
  inputs.tools = ordered_json::parse(R"([{"name": "f", "parameters": {"city": "string"}}])");
  const std::string begin = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday: 26 Jul 2024\n\n";
  CHECK(chat_template.render(inputs) ==
        begin +
            "S<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{\n  \"name\": \"f\",\n  \"parameters\": {\n"
            "    \"city\": \"string\"\n  }\n}\nZürich?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
            "{\"name\": \"f\", \"parameters\": {\"city\": \"Zürich\", \"n\": 1.0}}<|eot_id|>"
            "<|start_header_id|>tool<|end_header_id|>\n\n21 °C<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");

  inputs = inputs_of(R"([{"role": "user", "content": "Hi"}])");
  inputs.variables["date_string"] = "today";
  CHECK(chat_template.render(inputs) ==
        "<|start_header_id|>system<|end_header_id|>\n\nToday: today\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST_CASE("arguments are variables of any type") {
  const ChatTemplate chat_template = ChatTemplate::parse(
      "{{ 'quick' if thinking is defined and not thinking else 'slow' }} {{ limits.most + 1 }} {{ names | join('-') "
      "}}");
  auto inputs = inputs_of("[]");
  inputs.arguments = ordered_json::parse(R"({"thinking": false, "limits": {"most": 3}, "names": ["a", "b"]})");
  CHECK(chat_template.render(inputs) == "quick 4 a-b");
  inputs.arguments["thinking"] = true;
  CHECK(chat_template.render(inputs) == "slow 4 a-b");
}

TEST_CASE("the template's own exceptions and failures name the template and the line") {
  const ChatTemplate chat_template = ChatTemplate::parse(headed_turns, "folder/chat_template.jinja");
  CHECK(error_of(chat_template, inputs_of(R"([{"role": "critic", "content": "x"}])")) ==
        "folder/chat_template.jinja: line 17: unknown role critic");
  CHECK_THAT(error_of(chat_template, inputs_of(R"([{"role": "user", "content": "x", "tool_calls": 7}])")),
             Catch::Matchers::ContainsSubstring("line 26: 'int' object is not iterable"));
  CHECK_THAT(error_of(chat_template, inputs_of("[]")), Catch::Matchers::ContainsSubstring("no element 0"));
  CHECK_THROWS_AS(ChatTemplate::parse("{% if %}"), Error);
  CHECK_THROWS_AS(ChatTemplate::parse("\xff"), Error);
}

TEST_CASE("what is undefined, what is None, and the time") {
  const ChatTemplate chat_template = ChatTemplate::parse(
      "{{ bos_token is defined }} {{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} "
      "{{ strftime_now('%H:%M') }}");
  auto inputs = inputs_of("[]");
  CHECK(chat_template.render(inputs) == "False True True True 09:05");
  inputs.now = "2024-02-29 23:59";
  CHECK(chat_template.render(inputs) == "False True True True 23:59");
  inputs.now = std::nullopt;
  CHECK(chat_template.render(inputs).size() == std::string("False True True True 23:59").size());
  for (const char* wrong : {"", "yesterday", "2024-13-01", "2023-02-29", "2024-07-26T25:00", "2024-07-26T09:05:03x"}) {
    INFO(wrong);
    inputs.now = wrong;
    CHECK_THAT(error_of(chat_template, inputs),
               Catch::Matchers::ContainsSubstring("expected one like 2024-07-26T09:05:03"));
  }
  inputs.now = "2024-07-26T09:05:03.25+02:00";
  CHECK(chat_template.render(inputs) == "False True True True 09:05");
  inputs.messages = {{{"role", "user"}, {"content", "\xff"}}};
  CHECK_THAT(error_of(chat_template, inputs), Catch::Matchers::ContainsSubstring("not UTF-8"));
}

// Made with transformers and Jinja2 themselves; see README.md there.
TEST_CASE("published chat templates render as transformers renders them") {
  const auto shared = lathe::test::shared_dir();
  if (!shared) return lathe::test::skip("needs ../shared/chat_templates");
  const auto folder = *shared / "chat_templates";
  std::map<std::string, ChatTemplate> templates;
  std::ifstream lines(folder / "expected.jsonl");
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto record = ordered_json::parse(line);
    const std::string name = record["template"];
    INFO(name << ", case " << record["case"]);
    if (!templates.count(name)) {
      templates.emplace(name, ChatTemplate::parse(lathe::test::read_file(folder / "templates" / name), name));
    }
    ChatTemplate::Inputs inputs;
    inputs.messages = record["messages"];
    inputs.tools = record["tools"];
    inputs.add_generation_prompt = record["add_generation_prompt"];
    inputs.now = record["now"];
    for (const char* variable : {"bos_token", "eos_token"})
      if (!record[variable].is_null()) inputs.variables[variable] = record[variable];
    if (record.contains("expected")) {
      std::string result;
      CHECK_NOTHROW(result = templates.at(name).render(inputs));
      CHECK(result == record["expected"]);
    } else {  // the wording is Python's, but for what the template itself raises
      const std::string error = error_of(templates.at(name), inputs);
      CHECK_THAT(error, !Catch::Matchers::ContainsSubstring("no error, but"));
      if (record["error"]["type"] == "TemplateError")
        CHECK_THAT(error, Catch::Matchers::ContainsSubstring(record["error"]["message"]));
    }
  }
  CHECK(count > 0);
}
