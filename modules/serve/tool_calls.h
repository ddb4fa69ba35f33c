// Tool calls in what a model writes, in the forms that published models were trained on:
//
//   hermes   <tool_call>{"name": "f", "arguments": {...}}</tool_call>, any number of them (Hermes, Qwen 2.5 and 3)
//   llama    the whole answer {"name": "f", "parameters": {...}}, several separated by ; (Llama 3.1 and later)
//   mistral  [TOOL_CALLS] [{"name": "f", "arguments": {...}}, ...]
//   mistral_args  [TOOL_CALLS]f[ARGS]{...} for each, with [CALL_ID] and an id before [ARGS] or not (tokenizer v11)
//
// What does not parse as a call stays text: an answer is never lost.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template/chat_template.h"

namespace lathe {

enum class ToolFormat : unsigned char { none, hermes, llama, mistral, mistral_args };
// By what the chat template makes of a call in the conversation `like`, of which tools and arguments count; none where
// it takes no tools, or writes calls otherwise.
ToolFormat tool_format(const std::string& chat_template, const ChatTemplate::Inputs& like);

// What a model writes round a call's name and arguments.
struct CallTexts {
  std::string_view mark, before, between, behind, end_mark;  // the marks are special tokens where the model has such
};
CallTexts call_texts(ToolFormat format);

struct ToolCall {
  std::string name, arguments;  // JSON, as the model wrote it
  std::string id = {};          // that clients know it by, once it has one
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

  bool is_mistral() const { return format_ == ToolFormat::mistral || format_ == ToolFormat::mistral_args; }

  ToolFormat format_;
  std::string held_, space_;
  bool in_call_ = false, behind_call_ = false, is_text_ = false;
};

}  // namespace lathe
