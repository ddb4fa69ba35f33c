// Chat templates: from a conversation to the prompt that the model was trained on.
//
// A template is a Jinja2 program that comes with the model; this renders it as transformers does (Jinja2 3.1,
// ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls, `{% generation %}`, `tojson`,
// `raise_exception`, `strftime_now`). The result holds special tokens as text, most often the beginning-of-sequence
// token too: encode_chat.h makes ids of it. Not supported, each an Error: other templates (include, import, extends),
// HTML, integers of more than 64 bits (Python's grow), and what builtins.h names. A template is not
// trusted: its time, memory and nesting are bounded (budget.h), and going beyond is an Error.
#pragma once
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

class ChatTemplate {
 public:
  // Throws Error("<name>: line N: ...") where it is no template. `name` is for messages alone.
  static ChatTemplate parse(std::string_view source, std::string name = "chat template");

  struct Inputs {
    // [{"role": ..., "content": ...}, ...]; the template sees what prepare_messages (messages.h) makes of them.
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();
    nlohmann::ordered_json tools = nullptr;  // null is None, not undefined
    nlohmann::ordered_json documents = nullptr;
    bool add_generation_prompt = true;
    // The user's own variables that may be more than text: {"enable_thinking": false}. They come before all others.
    nlohmann::ordered_json arguments = nlohmann::ordered_json::object();
    std::map<std::string, std::string> variables;  // bos_token, eos_token, the user's own; all others are undefined
    std::optional<std::string> now;                // "2024-07-26T09:05:03" for strftime_now; without it, the local time
  };

  // The prompt. Throws Error("<name>: line N: ...") with the template's own message where it calls raise_exception,
  // else with what failed. Thread-safe.
  std::string render(const Inputs& inputs) const;

  // The variables that this rendering reads and that nobody gave, other than by asking whether they are defined or
  // giving a default for them; by name. Throws what render throws.
  std::vector<std::string> unknown_variables(const Inputs& inputs) const;

 private:
  std::string render(const Inputs& inputs, std::vector<std::string>& unknown_variables) const;
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program);
  std::shared_ptr<const Program> program_;
};

}  // namespace lathe
