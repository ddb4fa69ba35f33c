// A turn of the model, taken apart as it comes: thinking, text and calls of tools.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "serve/chat_prompt.h"

namespace lathe {

class Turn {
 public:
  struct Parts {
    std::string reasoning, content;
    std::vector<ToolCall> calls;
  };
  // `prompt`: ids of the prompt, once encoded. `call_prefix`: of the calls' ids, as the API has them.
  Turn(const ServedModel& model, const ChatPrompt& chat, const std::vector<int32_t>& prompt, const char* call_prefix);

  // What an event adds. The parts put together are whole(), wherever the borders of the events lie. With the turn's
  // last event its calls are kept in the model's CallMemory.
  Parts take(const GenerationEvent& event);
  const Parts& whole() const { return whole_; }
  int64_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  void add_calls(Parts& parts, std::vector<ToolCall> calls);

  std::shared_ptr<CallMemory> memory_;
  // Without what of it begins the answer's thinking, which templates leave out of earlier turns; and that.
  std::shared_ptr<const std::vector<int32_t>> prompt_;
  std::vector<int32_t> begun_;
  const char* call_prefix_;
  ThinkingParser thinking_;
  bool short_ids_;
  ToolCallParser calls_;
  bool one_call_, dropped_call_ = false;
  int64_t reasoning_tokens_ = 0;
  Parts whole_;
};

}  // namespace lathe
