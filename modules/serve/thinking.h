// Thinking in what a model writes: a text between two marks ahead of the answer, which the APIs show apart from it.
#pragma once
#include <array>
#include <string>
#include <string_view>

namespace lathe {

struct ThinkingMarks {
  std::string_view begin, end;  // "<think>", "</think>"; both empty: the model does not think
  // What else frames an answer, and is no part of it; the first of them stands between thinking and answer.
  std::array<std::string_view, 5> frame = {};
};
// By the marks that the model's chat template writes, or cuts out of earlier answers.
ThinkingMarks thinking_marks(std::string_view chat_template);

// Takes an answer piece by piece. The texts put together do not depend on the borders of the pieces. White space round
// the marks belongs to neither text.
class ThinkingParser {
 public:
  struct Found {
    std::string reasoning, content;
  };
  // `prompt`: the end of it; where it is the first mark, the answer begins with thinking.
  ThinkingParser(ThinkingMarks marks, std::string_view prompt);

  Found push(std::string_view piece);
  Found finish();
  bool inside() const { return state_ == State::inside; }

 private:
  enum class State : unsigned char { start, inside, behind, content };
  bool take(Found& found, bool last);
  void add_reasoning(Found& found, std::string_view text);
  void add_content(Found& found, bool last);

  ThinkingMarks marks_;
  bool opened_ = false;  // by the prompt
  State state_ = State::start;
  std::string held_, space_;
  bool has_reasoning_ = false;
};

}  // namespace lathe
