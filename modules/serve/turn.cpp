#include "serve/turn.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace lathe {
namespace {

std::string new_call_id(bool is_short, const char* prefix) {
  std::string id = new_id(prefix);
  return is_short ? id.substr(id.size() - 9) : id;
}

}  // namespace

Turn::Turn(const ServedModel& model, const ChatPrompt& chat, const std::vector<int32_t>& prompt,
           const char* call_prefix)
    : memory_(model.calls),
      call_prefix_(call_prefix),
      thinking_(chat.thinking_parser(prompt)),
      short_ids_(chat.tool_form() && chat.tool_form()->short_ids),
      calls_(chat.tool_form(), std::make_shared<const nlohmann::ordered_json>(chat.inputs.tools)),
      one_call_(chat.one_call()) {
  const auto border = prompt.end() - chat.thinking_tokens(prompt);
  prompt_ = std::make_shared<const std::vector<int32_t>>(prompt.begin(), border);
  begun_.assign(border, prompt.end());
}

void Turn::add_calls(Parts& parts, std::vector<ToolCall> calls) {
  for (ToolCall& call : calls) {
    dropped_call_ |= one_call_ && !whole_.calls.empty();
    if (dropped_call_) return;
    call.id = new_call_id(short_ids_, call_prefix_);
    parts.calls.push_back(call);
    whole_.calls.push_back(std::move(call));
  }
}

Turn::Parts Turn::take(const GenerationEvent& event) {
  Parts parts;
  const auto read = [&](const ThinkingParser::Found& found) {
    parts.reasoning += found.reasoning;
    ToolCallParser::Found of = calls_.push(found.content);
    parts.content += of.content;
    add_calls(parts, std::move(of.calls));
  };
  const bool inside = thinking_.inside();
  read(thinking_.push(event.text));
  reasoning_tokens_ += event.token && (inside || thinking_.inside());
  if (event.completion) {
    read(thinking_.finish());
    ToolCallParser::Found of = calls_.finish();
    parts.content += of.content;
    add_calls(parts, std::move(of.calls));
  }
  whole_.reasoning += parts.reasoning;
  whole_.content += parts.content;
  const bool ended = event.completion && event.completion->finish_reason == FinishReason::stop &&
                     event.completion->stop_string.empty();
  if (ended && !whole_.calls.empty() && !dropped_call_) {
    begun_.insert(begun_.end(), event.completion->tokens.begin(), event.completion->tokens.end());
    memory_->keep(*prompt_, {whole_.content, whole_.calls, !whole_.reasoning.empty(), std::move(begun_)});
  }
  return parts;
}

}  // namespace lathe
