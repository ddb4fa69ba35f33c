// A conversation becomes a prompt: the one way there for all endpoints that take messages.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "serve/answer.h"
#include "serve/request_fields.h"
#include "serve/thinking.h"
#include "serve/tool_calls.h"
#include "text/chat_template/chat_template.h"
#include "text/grammar/grammar.h"

namespace lathe {

// Whether the model is to call a tool, and which.
struct ToolChoice {
  enum class Kind : unsigned char { automatic, none, required } kind = Kind::automatic;
  std::string name = {};  // the only tool that may be called; empty: any
  bool parallel = true;   // several calls in one answer
};

class ChatPrompt {
 public:
  // `field`: the request's, that holds the messages. Throws ApiError where the model has no tokenizer or no template.
  explicit ChatPrompt(const ServedModel& model, std::string field = "messages");

  ChatTemplate::Inputs inputs;

  // As templates take them; what tools answered gets the tool's name where the client gave none: some templates want
  // it.
  void take_messages(nlohmann::ordered_json messages);
  // chat_template_kwargs and add_generation_prompt.
  void read_arguments(RequestFields& fields);
  // `tools` in OpenAI's form, or null. Throws ApiError where the model's template takes none, or the choice cannot be
  // had.
  void take_tools(nlohmann::ordered_json tools, const ToolChoice& choice);
  // Whether to think, and how much ("low" to "max"), as far as the template knows of it; what the user gave the
  // template himself comes first. Throws ApiError naming `field` where the template cannot do so.
  void think(bool wanted, const std::optional<std::string>& effort, const std::string& field);

  // What the answer may be: calls, where tools must be called; its own grammar, or calls, where it has one and there
  // are tools. Thinking comes before. And which special tokens its reader looks for. Throws ApiError where a tool's
  // parameters cannot be had as a grammar.
  void constrain(Request& request) const;

  // Throws ApiError where the template does not take the conversation.
  std::string render() const;
  // Its ids. Turns whose calls the server has made stand there as the model wrote them, token by token.
  std::vector<int32_t> encode() const;

  const ToolForm* tool_form() const { return tool_form_; }  // null: no tools were given
  bool one_call() const { return !choice_.parallel; }
  ThinkingMarks thinking() const { return thinking_marks(source()); }
  // Of a parser for what the model answers to `prompt`.
  ThinkingParser thinking_parser(const std::vector<int32_t>& prompt) const;
  // Tokens at the end of the prompt that begin the answer's thinking, or begin and end it.
  std::ptrdiff_t thinking_tokens(const std::vector<int32_t>& prompt) const;

 private:
  const std::string& source() const;
  GrammarPart calls(GrammarBuilder& g) const;
  GrammarPart spelled(GrammarBuilder& g, std::string_view text) const;
  std::string tail(const std::vector<int32_t>& prompt, std::ptrdiff_t tokens = kPromptTail) const;

  static constexpr std::ptrdiff_t kPromptTail = 16;  // tokens, more than any mark has
  const ChatTemplate::Inputs& given() const;

  const ServedModel& model_;
  std::string field_;
  const ToolForm* tool_form_ = nullptr;
  ToolChoice choice_;
};

}  // namespace lathe
