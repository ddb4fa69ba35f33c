// Tool calls in what a model writes, in the forms that published models were trained on:
//
//   hermes   <tool_call>{"name": "f", "arguments": {...}}</tool_call>, any number of them (Hermes, Qwen 2.5 and 3)
//   llama    the whole answer {"name": "f", "parameters": {...}}, several separated by ; (Llama 3.1 and later)
//   mistral  [TOOL_CALLS] [{"name": "f", "arguments": {...}}, ...], or [TOOL_CALLS]f[ARGS]{...} for each (tokenizer
//   v11)
//
// What does not parse as a call stays text: an answer is never lost.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

enum class ToolFormat : unsigned char { none, hermes, llama, mistral };
// By what the model's chat template writes of earlier calls; none where it takes no tools.
ToolFormat tool_format(std::string_view chat_template);

struct ToolCall {
  std::string name, arguments;  // JSON, as the model wrote it
};

// Takes an answer piece by piece. All contents put together, and the calls, do not depend on the borders of the pieces.
class ToolCallParser {
 public:
  struct Found {
    std::string content;
    std::vector<ToolCall> calls;
    Found& operator+=(const Found& more);
  };
  explicit ToolCallParser(ToolFormat format) : format_(format) {}

  Found push(std::string_view piece);
  Found finish();

 private:
  void take_hermes(Found& found, bool last);
  void take_hermes_text(Found& found, std::string text, bool last);
  void take_rest(Found& found);

  ToolFormat format_;
  std::string held_, space_;
  bool in_call_ = false, behind_call_ = false, is_text_ = false;
};

}  // namespace lathe
