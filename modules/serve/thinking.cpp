#include "serve/thinking.h"

#include <utility>

#include "serve/text_marks.h"

namespace lathe {
namespace {

// gpt-oss; Qwen, DeepSeek, GLM and most others; Cohere; Gemma 4; MiniMax; Magistral.
constexpr ThinkingMarks kThinkingMarks[] = {{"<|channel|>analysis<|message|>",
                                             "<|end|>",
                                             {"<|start|>assistant", "<|channel|>final<|message|>",
                                              "<|channel|>commentary<|message|>", "<|channel|>commentary", "<|end|>"}},
                                            {"<think>", "</think>"},
                                            {"<|START_THINKING|>", "<|END_THINKING|>"},
                                            {"<|channel>thought", "<channel|>"},
                                            {"<mm:think>", "</mm:think>"},
                                            {"[THINK]", "[/THINK]"}};

}  // namespace

ThinkingMarks thinking_marks(std::string_view chat_template) {
  for (const ThinkingMarks& marks : kThinkingMarks)
    if (chat_template.find(marks.end) != chat_template.npos &&
        (marks.frame[0].empty() || chat_template.find(marks.begin) != chat_template.npos))
      return marks;
  return {};
}

ThinkingParser::ThinkingParser(ThinkingMarks marks, std::string_view prompt)
    : marks_(marks), state_(marks.end.empty() ? State::content : State::start) {
  prompt = prompt.substr(0, prompt.find_last_not_of(kSpace) + 1);
  opened_ = !marks.end.empty() && prompt.ends_with(marks.begin);
}

void ThinkingParser::add_reasoning(Found& found, std::string_view text) {
  if (!has_reasoning_) text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  const size_t solid = text.find_last_not_of(kSpace) + 1;
  if (solid > 0) {
    found.reasoning += std::exchange(space_, {});
    found.reasoning += text.substr(0, solid);
    has_reasoning_ = true;
  }
  space_ += text.substr(solid);
}

// One step; false where nothing follows from what is held.
bool ThinkingParser::take(Found& found, bool last) {
  const size_t solid = std::min(held_.find_first_not_of(kSpace), held_.size());
  switch (state_) {
    case State::start:
      if (held_.compare(solid, marks_.begin.size(), marks_.begin) == 0) {
        held_.erase(0, solid + marks_.begin.size());
        state_ = State::inside;
      } else if (!last && marks_.begin.starts_with(std::string_view(held_).substr(solid))) {
        return false;
      } else {
        state_ = opened_ ? State::inside : State::content;
      }
      return true;
    case State::inside: {
      const size_t end = held_.find(marks_.end);
      const size_t certain = std::min(end, held_.size() - (last ? 0 : begun(held_, marks_.end)));
      add_reasoning(found, std::string_view(held_).substr(0, certain));
      held_.erase(0, end == held_.npos ? certain : end + marks_.end.size());
      if (end != held_.npos) state_ = State::behind;
      return end != held_.npos;
    }
    case State::behind:
      held_.erase(0, solid);
      if (!held_.empty()) state_ = State::content;
      return !held_.empty();
    case State::content: add_content(found, last); return false;
  }
  return false;
}

// The longer of two frames that begin alike stands first in the list, and is waited for.
void ThinkingParser::add_content(Found& found, bool last) {
  while (true) {
    size_t at = held_.size(), held = 0, size = 0;
    for (const std::string_view frame : marks_.frame) {
      if (frame.empty()) continue;
      const size_t place = held_.find(frame);
      if (place < at) {
        at = place;
        size = frame.size();
      }
      if (!last) held = std::max(held, begun(held_, frame));
    }
    const size_t certain = std::min(at, held_.size() - held);
    found.content += held_.substr(0, certain);
    held_.erase(0, certain);
    if (size == 0 || at != certain || (held > 0 && held == held_.size())) return;
    held_.erase(0, size);
  }
}

ThinkingParser::Found ThinkingParser::push(std::string_view piece) {
  Found found;
  held_ += piece;
  while (take(found, false)) {}
  return found;
}

ThinkingParser::Found ThinkingParser::finish() {
  Found found;
  while (take(found, true)) {}
  return found;
}

}  // namespace lathe
