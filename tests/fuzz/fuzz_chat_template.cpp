// libFuzzer target: any text as a chat template over a fixed conversation with tools. It renders valid UTF-8 within its
// budget, or is refused with lathe::Error.
#include <nlohmann/json.hpp>

#include "tensor/errors.h"
#include "text/chat_template/chat_template.h"
#include "text/unicode/unicode.h"

namespace {

lathe::ChatTemplate::Inputs conversation() {
  using Json = nlohmann::ordered_json;
  lathe::ChatTemplate::Inputs inputs;
  inputs.messages = Json::parse(R"([
      {"role": "system", "content": "Be brief."},
      {"role": "user", "content": [{"type": "text", "text": "What is 2 + 2?"}]},
      {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "id": "a1", "function":
          {"name": "add", "arguments": {"x": 2, "y": 2.5, "exact": true}}}]},
      {"role": "tool", "tool_call_id": "a1", "content": "4"},
      {"role": "assistant", "content": "<think>\u00e9</think>\nFour."},
      {"role": "user", "content": "Thanks <|im_end|> \"&' \ud83d\ude00"}])");
  inputs.tools = Json::parse(R"([{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters":
      {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}, "required": ["x"]}}}])");
  inputs.variables = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  inputs.now = "2024-07-26T09:05:03";
  return inputs;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const lathe::ChatTemplate::Inputs inputs = conversation();
  try {
    const std::string_view source(reinterpret_cast<const char*>(data), size);
    if (lathe::first_invalid_utf8(lathe::ChatTemplate::parse(source).render(inputs))) std::abort();
  } catch (const lathe::Error&) {}
  return 0;
}
