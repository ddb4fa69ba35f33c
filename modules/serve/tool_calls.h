// Tool calls in what a model writes, in the forms that published models were trained on: a table of them, tool_forms().
//
// A form says what stands round calls and round their parts. Arguments are written in one of four ways:
//
//   objects  {"name": "f", "arguments": {"x": 1}}: one of them, several, or a list (Hermes, Llama, Mistral, Cohere)
//   named    f, a mark, {"x": 1} (Mistral since tokenizer v11, gpt-oss)
//   tagged   f, then each key and value in tags; a text stands there as it is, all else as JSON (Qwen 3 Coder, GLM)
//   bare     f{x:1}: JSON whose keys are bare, and whose texts stand between marks (Gemma 4)
//
// What does not parse as a call stays text: an answer is never lost.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template/chat_template.h"

namespace lathe {

struct ToolForm {
  enum class Arguments : unsigned char { objects, named, tagged, bare };
  const char* name;
  Arguments arguments;
  // Round calls: special tokens where the model has such. Without an end, calls go on to the end of the answer; without
  // a beginning the whole answer is calls or none is.
  std::string_view begin, end;
  std::string_view before_name, behind_name;  // behind_name: up to the arguments
  std::string_view behind_call = {};          // up to the end, or to the next call
  std::string_view before_key = {}, behind_key = {}, before_value = {}, behind_value = {};  // tagged; values: bare too
  std::string_view may_lead = {};  // a mark that may stand before all calls
  bool repeats = false;            // several calls are begun and ended one by one
  bool short_ids = false;          // of calls, in its templates: nine letters or digits
};
std::span<const ToolForm> tool_forms();
// All texts of a form: what must not be missing from an answer that is read.
std::vector<std::string_view> form_texts(const ToolForm& form);

// By what the chat template makes of a call in the conversation `like`, of which tools and arguments count; null where
// it takes no tools, or writes calls otherwise.
const ToolForm* tool_form(const std::string& chat_template, const ChatTemplate::Inputs& like);

// The same for the templates of one model, each looked at once for all conversations with the same arguments. From any
// thread.
class ToolForms {
 public:
  const ToolForm* of(const std::string& chat_template, const ChatTemplate::Inputs& like);

 private:
  std::mutex mutex_;
  std::map<std::string, const ToolForm*> found_;  // by template and arguments
};

struct ToolCall {
  std::string name, arguments;  // JSON: the model's own, or what its other spelling says
  std::string id = {};          // that clients know it by, once it has one
};

// Takes an answer piece by piece. All contents put together, and the calls, do not depend on the borders of the pieces.
// White space round calls is no part of the content.
class ToolCallParser {
 public:
  struct Found {
    std::string content;
    std::vector<ToolCall> calls;
    Found& operator+=(const Found& more);
  };
  // `form`: null: all is content. `tools`, in OpenAI's form, say which arguments are texts.
  explicit ToolCallParser(const ToolForm* form, std::shared_ptr<const nlohmann::ordered_json> tools = {})
      : form_(form), tools_(std::move(tools)) {}

  Found push(std::string_view piece);
  Found finish();

 private:
  void take_marked(Found& found, bool last);
  void take_text(Found& found, std::string text, bool last);

  const ToolForm* form_;
  std::shared_ptr<const nlohmann::ordered_json> tools_;
  std::string held_, space_;
  bool in_call_ = false, behind_call_ = false, is_text_ = false;
};

}  // namespace lathe
