// The shape of a conversation, and what transformers does to it before a template sees it.
#include "tensor/errors.h"
#include "tests/catch.h"
#include "text/chat_template/chat_template.h"
#include "text/chat_template/messages.h"

using namespace lathe;
using Catch::Matchers::Equals;
using nlohmann::ordered_json;

namespace {

std::string refusal(const char* messages) {
  try {
    check_messages(ordered_json::parse(messages), "m.json");
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}

std::string prepared(const char* messages) { return prepare_messages(ordered_json::parse(messages)).dump(); }

}  // namespace

// The values are those of transformers 5.23, apply_chat_template with the template "{{ messages | tojson }}".
TEST_CASE("messages: keys of null are left out, at the top of a message alone") {
  CHECK(prepared(R"([{"role":"user","content":null,"name":null,"x":{"y":null}}])") ==
        R"([{"role":"user","x":{"y":null}}])");
  CHECK(prepared(R"([{"role":"assistant","content":[{"type":"text","text":null}],"tool_calls":null}])") ==
        R"([{"role":"assistant","content":[{"type":"text","text":null}]}])");
  CHECK(prepared(R"([{"role":"user","content":""},5])") == R"([{"role":"user","content":""},5])");
}

TEST_CASE("messages: reasoning is there under every name that templates read") {
  CHECK(prepared(R"([{"role":"a","thinking":"t"}])") == R"([{"thinking":"t","role":"a","reasoning_content":"t"}])");
  CHECK(prepared(R"([{"role":"a","reasoning":"r","thinking":null}])") ==
        R"([{"thinking":"r","role":"a","reasoning":"r","reasoning_content":"r"}])");
  CHECK(prepared(R"([{"reasoning":"r","reasoning_content":"c","thinking":"t"}])") ==
        R"([{"thinking":"t","reasoning":"r","reasoning_content":"c"}])");
  CHECK(prepared(R"([{"role":"a","thinking":"t","reasoning":"r"}])") ==
        R"([{"thinking":"t","role":"a","reasoning":"r","reasoning_content":"t"}])");
  CHECK(prepared(R"([{"role":"a","reasoning_content":""}])") ==
        R"([{"thinking":"","role":"a","reasoning_content":""}])");
  CHECK(prepared(R"([{"role":"a","reasoning_content":null}])") == R"([{"role":"a"}])");
  ChatTemplate::Inputs inputs;
  inputs.messages = ordered_json::parse(R"([{"role": "assistant", "content": null, "reasoning": "why"}])");
  CHECK(ChatTemplate::parse("{{ messages[0].thinking }}{{ messages[0].content is defined }}").render(inputs) ==
        "whyFalse");
}

TEST_CASE("messages: what is no conversation is named") {
  CHECK(refusal(R"([{"role":"user","content":"hi"}])").empty());
  CHECK(refusal(R"([{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":null}])")
            .empty());
  CHECK(refusal(R"([{"role":"assistant","tool_calls":[{"function":{}}]},{"role":"tool","content":{"t":21}}])").empty());
  CHECK_THAT(refusal("7"), Equals("m.json: expected a list of messages, found 7"));
  CHECK_THAT(refusal(R"({"role":"user"})"), Equals("m.json: expected a list of messages, found an object"));
  CHECK_THAT(refusal("[]"), Equals("m.json: expected at least one message, found an empty list"));
  CHECK_THAT(refusal(R"([{"role":"user"},null])"), Equals("m.json[1]: expected an object, found null"));
  CHECK_THAT(refusal(R"([{"role":"user","name":"x"}])"), Equals("m.json[0]: 'content' is missing"));
  CHECK_THAT(refusal(R"([{"content":"hi"}])"), Equals("m.json[0]: 'role' is missing"));
  CHECK_THAT(refusal(R"([{"role":["user"]}])"), Equals("m.json[0].role: expected a string, found an array"));
  CHECK_THAT(refusal(R"([{"role":"user","content":3.5}])"),
             Equals("m.json[0].content: expected a string, a list of parts or null, found 3.5"));
  CHECK_THAT(refusal(R"([{"role":"user","content":{"text":"hi"}}])"),
             Equals("m.json[0].content: expected a string, a list of parts or null, found an object"));
  CHECK_THAT(refusal(R"([{"role":"user","content":["hi"]}])"),
             Equals("m.json[0].content[0]: expected an object, found 'hi'"));
  CHECK_THAT(refusal(R"([{"role":"user","tool_calls":"f"}])"),
             Equals("m.json[0].tool_calls: expected a list or null, found 'f'"));
  CHECK_THROWS_WITH(check_tools(ordered_json::parse(R"({"name":"f"})"), "t.json"),
                    Equals("t.json: expected a list of tools or null, found an object"));
  CHECK_NOTHROW(check_tools(nullptr, "t.json"));
}
